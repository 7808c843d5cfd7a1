//! Attacks on the memory of the guest and of the host.

use guest_sdk::{Failure, Host, Target};
use std::{hint::black_box, time::Duration};
use wasip2::{
    clocks::monotonic_clock,
    http::types::Fields,
    random::random::get_random_bytes,
    sockets::{network::IpAddressFamily, tcp_create_socket::create_tcp_socket},
};

pub(crate) fn letters(count: usize) -> Vec<u8> {
    vec![b'x'; count]
}

pub(crate) fn text(count: usize) -> String {
    "x".repeat(count)
}

/// Returns a value of the maximum size that differs in each call.
pub(crate) fn max_size_value(calls: u32) -> Vec<u8> {
    let mut value = letters(16 << 20);
    value[..4].copy_from_slice(&calls.to_le_bytes());
    value
}

pub(crate) fn memory_growth() -> ! {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
        black_box(&all);
    }
}

pub(crate) fn random(count: u64) -> Vec<u8> {
    get_random_bytes(count)
}

pub(crate) fn random_flood() -> ! {
    loop {
        black_box(get_random_bytes(64 << 10));
    }
}

pub(crate) fn header_flood() -> Vec<u8> {
    let fields = Fields::new();
    let value = [b'x'; 1000];
    for number in 0..1_000_000 {
        if let Err(error) = fields.append(&format!("x-{number}"), &value) {
            return format!("{number}: {error:?}").into_bytes();
        }
    }
    b"all of them".to_vec()
}

pub(crate) fn pollable_exhaustion() -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..1_000_000 {
        all.push(monotonic_clock::subscribe_duration(u64::MAX / 2));
    }
    all.len().to_string().into_bytes()
}

pub(crate) fn socket_exhaustion() -> Vec<u8> {
    let mut all = Vec::new();
    for number in 0..1_000_000 {
        match create_tcp_socket(IpAddressFamily::Ipv4) {
            Ok(socket) => all.push(socket),
            Err(error) => return format!("{number}: {error:?}").into_bytes(),
        }
    }
    b"all of them".to_vec()
}

pub(crate) fn connection_exhaustion(host: &Host, to: &str) -> Result<Vec<u8>, Failure> {
    let (name, port) = to.rsplit_once(':').unwrap_or((to, "0"));
    let port = port.parse().map_err(Failure::config)?;
    let target = Target { host: name.into(), port, tls: false };
    let mut all = Vec::new();
    loop {
        all.push(host.connect(&target, Duration::from_secs(1))?);
    }
}

pub(crate) fn watch_exhaustion(host: &Host, path: &str) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    loop {
        all.push(host.watch_file(path)?);
    }
}

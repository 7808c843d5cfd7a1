//! Attacks on CPU time and on call timeouts.

use guest_sdk::{Failure, Host, Target, tracing};
use std::{hint::black_box, time::Duration};
use wasip2::clocks::monotonic_clock;

pub(crate) fn infinite_loop() -> ! {
    loop {
        black_box(());
    }
}

pub(crate) fn sleep() -> ! {
    loop {
        monotonic_clock::subscribe_duration(u64::MAX / 2).block();
    }
}

pub(crate) fn wait_for_file(host: &Host, path: &str) -> Result<Vec<u8>, Failure> {
    let mut watch = host.watch_file(path)?;
    loop {
        watch.wait(Duration::MAX)?;
    }
}

pub(crate) fn wait_for_bytes(host: &Host, to: &str) -> Result<Vec<u8>, Failure> {
    let (name, port) = to.rsplit_once(':').unwrap_or((to, "0"));
    let port = port.parse().map_err(Failure::config)?;
    let target = Target { host: name.into(), port, tls: false };
    let mut connection = host.connect(&target, Duration::MAX)?;
    loop {
        connection.poll(Duration::MAX)?;
    }
}

pub(crate) fn infinite_recursion() -> Vec<u8> {
    #[inline(never)]
    fn recurse(depth: u64) -> u64 {
        let here = black_box([depth; 8]);
        if black_box(depth) == u64::MAX { 0 } else { recurse(depth + 1) + here[3] }
    }
    recurse(0).to_string().into_bytes()
}

pub(crate) fn busy_wait() -> ! {
    loop {
        monotonic_clock::subscribe_duration(0).block();
    }
}

pub(crate) fn busy_calls() -> ! {
    loop {
        black_box(monotonic_clock::now());
        tracing::error!("and on");
    }
}

pub(crate) fn busy_read(host: &Host, path: &str) -> Result<Vec<u8>, Failure> {
    loop {
        host.read_file(path)?;
    }
}

/// Computes for less than one epoch between two sleeps.
pub(crate) fn compute_and_sleep() -> ! {
    loop {
        let start = monotonic_clock::now();
        while monotonic_clock::now() - start < 800_000 {}
        monotonic_clock::subscribe_duration(10_000).block();
    }
}

//! Ways out.

use guest_sdk::{Failure, Host, Request, Target};
use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};
use wasip2::{
    http::{outgoing_handler, types as http},
    sockets::{instance_network::instance_network, ip_name_lookup},
};

const SOON: Duration = Duration::from_secs(1);

fn target(to: &str, tls: bool) -> Result<Target, Failure> {
    let (host, port) = to.rsplit_once(':').unwrap_or((to, "0"));
    Ok(Target { host: host.into(), port: port.parse().map_err(Failure::config)?, tls })
}

pub(crate) fn connect(host: &Host, to: &str, tls: bool) -> Result<Vec<u8>, Failure> {
    host.connect(&target(to, tls)?, SOON)?;
    Ok(b"connected".to_vec())
}

pub(crate) fn socket(to: &str) -> Result<Vec<u8>, Failure> {
    TcpStream::connect(to)?;
    Ok(b"connected".to_vec())
}

pub(crate) fn listen(to: &str) -> Result<Vec<u8>, Failure> {
    TcpListener::bind(to)?;
    Ok(b"listening".to_vec())
}

pub(crate) fn datagram(to: &str) -> Result<Vec<u8>, Failure> {
    UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", to)?;
    Ok(b"sent".to_vec())
}

/// The very import, since the standard library takes addresses for names that need no look-up.
pub(crate) fn look_up(name: &str) -> Vec<u8> {
    let network = instance_network();
    let answer = match ip_name_lookup::resolve_addresses(&network, name) {
        Err(error) => format!("{error:?}"),
        Ok(stream) => {
            stream.subscribe().block();
            format!("{:?}", stream.resolve_next_address())
        }
    };
    answer.into_bytes()
}

/// The response's status and body.
pub(crate) fn request(
    host: &Host,
    url: &str,
    headers: &[(&str, &str)],
) -> Result<Vec<u8>, Failure> {
    let mut request = Request::get(url).timeout(SOON * 5);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = host.send(request)?;
    let mut said = format!("{} ", response.status).into_bytes();
    said.extend(response.bytes(1 << 20, SOON)?);
    Ok(said)
}

/// A request with a body that goes on for as long as it is taken.
pub(crate) fn upload(authority: &str) -> Result<Vec<u8>, Failure> {
    let said = |error: http::ErrorCode| Failure::transient(error);
    let request = http::OutgoingRequest::new(http::Fields::new());
    let refused = |()| Failure::config("it cannot be requested");
    request.set_method(&http::Method::Post).map_err(refused)?;
    request.set_scheme(Some(&http::Scheme::Http)).map_err(refused)?;
    request.set_authority(Some(authority)).map_err(refused)?;
    request.set_path_with_query(Some("/")).map_err(refused)?;
    let body = request.body().map_err(refused)?;
    let pending = outgoing_handler::handle(request, None).map_err(said)?;
    let stream = body.write().map_err(refused)?;
    let piece = [b'x'; 4096];
    while stream.blocking_write_and_flush(&piece).is_ok() {}
    pending.subscribe().block();
    match pending.get() {
        Some(Ok(Err(error))) => Err(said(error)),
        _ => Ok(b"taken".to_vec()),
    }
}

/// Ways to write the same address. How often the server has answered.
pub(crate) fn spellings(host: &Host, port: &str) -> Result<Vec<u8>, Failure> {
    let spellings = ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1."];
    let mut answers = 0;
    for _ in 0..3 {
        for spelling in spellings {
            request(host, &format!("http://{spelling}:{port}/"), &[])?;
            answers += 1;
        }
    }
    Ok(answers.to_string().into_bytes())
}

/// How many texts of 100 KiB the host has taken.
pub(crate) fn request_bombs() -> Vec<u8> {
    let text = "x".repeat(100 << 10);
    let mut taken = 0;
    let mut all = Vec::new();
    for _ in 0..30 {
        let request = http::OutgoingRequest::new(http::Fields::new());
        for result in [
            request.set_method(&http::Method::Other(text.clone())),
            request.set_scheme(Some(&http::Scheme::Other(text.clone()))),
            request.set_authority(Some(&text)),
            request.set_path_with_query(Some(&text)),
        ] {
            taken += u32::from(result.is_ok());
        }
        all.push(request);
    }
    taken.to_string().into_bytes()
}

pub(crate) fn header_bomb() -> Vec<u8> {
    let taken = http::Fields::new().append("x", &[b'x'; 1 << 20]);
    format!("{taken:?}").into_bytes()
}

pub(crate) fn beg(host: &Host, path: impl Fn(u32) -> String) -> Vec<u8> {
    for number in 0..1_000 {
        let _ = host.read_file(&path(number));
    }
    b"begged".to_vec()
}

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

//! Attacks on the network access of plugins.

use guest_sdk::{Failure, Host, Request, Target};
use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};
use wasip2::{
    http::{outgoing_handler, types as http},
    sockets::{instance_network::instance_network, ip_name_lookup},
};

/// Timeout of connections and reads.
const IO_TIMEOUT: Duration = Duration::from_secs(1);

fn target(to: &str, tls: bool) -> Result<Target, Failure> {
    let (host, port) = to.rsplit_once(':').unwrap_or((to, "0"));
    Ok(Target { host: host.into(), port: port.parse().map_err(Failure::config)?, tls })
}

pub(crate) fn connect(host: &Host, to: &str, tls: bool) -> Result<Vec<u8>, Failure> {
    host.connect(&target(to, tls)?, IO_TIMEOUT)?;
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

/// Resolves a name. Calls the WASI import directly, because the standard library does not pass IP
/// addresses to the resolver.
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

/// Sends a request and returns the status and body of the response.
pub(crate) fn request(
    host: &Host,
    url: &str,
    headers: &[(&str, &str)],
) -> Result<Vec<u8>, Failure> {
    let mut request = Request::get(url).timeout(IO_TIMEOUT * 5);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = host.send(request)?;
    let mut content = format!("{} ", response.status).into_bytes();
    content.extend(response.bytes(1 << 20, IO_TIMEOUT)?);
    Ok(content)
}

/// Sends a request with a body without end.
pub(crate) fn upload(authority: &str) -> Result<Vec<u8>, Failure> {
    let failure = |error: http::ErrorCode| Failure::transient(error);
    let request = http::OutgoingRequest::new(http::Fields::new());
    let rejected = |()| Failure::config("invalid request");
    request.set_method(&http::Method::Post).map_err(rejected)?;
    request.set_scheme(Some(&http::Scheme::Http)).map_err(rejected)?;
    request.set_authority(Some(authority)).map_err(rejected)?;
    request.set_path_with_query(Some("/")).map_err(rejected)?;
    let body = request.body().map_err(rejected)?;
    let pending = outgoing_handler::handle(request, None).map_err(failure)?;
    let stream = body.write().map_err(rejected)?;
    let piece = [b'x'; 4096];
    while stream.blocking_write_and_flush(&piece).is_ok() {}
    pending.subscribe().block();
    match pending.get() {
        Some(Ok(Err(error))) => Err(failure(error)),
        _ => Ok(b"taken".to_vec()),
    }
}

/// Sends requests to several spellings of one address and returns the number of responses.
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

/// Returns the number of 100 KiB request parts that the host accepted.
pub(crate) fn oversized_request_parts() -> Vec<u8> {
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

pub(crate) fn oversized_header() -> Vec<u8> {
    let taken = http::Fields::new().append("x", &[b'x'; 1 << 20]);
    format!("{taken:?}").into_bytes()
}

pub(crate) fn read_denied_files(host: &Host, path: impl Fn(u32) -> String) -> Vec<u8> {
    for number in 0..1_000 {
        let _ = host.read_file(&path(number));
    }
    b"done".to_vec()
}

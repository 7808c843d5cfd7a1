//! Hostile HTTP/1.1 servers.

use super::tcp::{Server, tcp};
use flate2::{Compression, write::GzEncoder};
use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
};

/// Starts a server that reads the head of each request, calls `serve` with its path and query, and closes the
/// connection.
///
/// # Panics
///
/// If no port is free.
#[must_use]
pub fn http(
    serve: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Server {
    tcp(move |stream| {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        serve(request.split(' ').nth(1).unwrap_or_default(), stream)
    })
}

/// Sends a complete response. `headers` consists of lines that end with CRLF.
///
/// # Errors
///
/// If the client closes the connection.
pub fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// Decompression bomb: `bytes` zeros, compressed by gzip to about a thousandth.
///
/// # Panics
///
/// If the encoder fails.
#[must_use]
pub fn gzip_bomb(bytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = [0; 65_536];
    for _ in 0..bytes.div_ceil(zeros.len()) {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}

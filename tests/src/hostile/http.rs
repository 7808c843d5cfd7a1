//! HTTP, and what only looks like it.

use super::{Server, tcp};
use flate2::{Compression, write::GzEncoder};
use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
};

/// The path of a request, with its query.
pub type Path = str;

/// Serves each request: its head is read, and its path given. The connection ends after that.
///
/// # Panics
///
/// When there is no port left.
#[must_use]
pub fn http(
    serve: impl Fn(&Path, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
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

/// A whole response. `headers` are lines, each with its end.
///
/// # Errors
///
/// When nobody takes it.
pub fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// So many zeros, compressed to about a thousandth.
///
/// # Panics
///
/// When there is no memory left.
#[must_use]
pub fn bomb(bytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = [0; 65_536];
    for _ in 0..bytes.div_ceil(zeros.len()) {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}

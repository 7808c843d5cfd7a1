//! Client of the HTTP API, with one connection for each request and a timeout for each read.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Opens a connection and sends a GET request. The caller reads the response.
///
/// # Errors
///
/// If the host does not accept the connection in time.
pub(crate) fn open(
    address: SocketAddr,
    path: &str,
    headers: &str,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // HTTP/1.0: the end of the connection ends the response, so its body has no chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n")?;
    Ok(stream)
}

/// Sends a GET request and returns the status and the body.
///
/// # Errors
///
/// If the host does not answer in time.
pub(crate) fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let mut stream = open(address, path, "", timeout)?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response");
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(invalid)?, body.to_owned()))
}

//! TCP server with one thread for each connection, and the basic misbehaviours: stall, drip, flood.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// Server on a free port. It serves until the test process exits.
#[derive(Debug, Clone, Copy)]
pub struct Server(SocketAddr);

impl Server {
    /// Returns the port.
    #[must_use]
    pub fn port(self) -> u16 {
        self.0.port()
    }

    /// Returns the URL of a path, which begins with `/`.
    #[must_use]
    pub fn url(self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }
}

/// Starts a server that calls `serve` for each connection.
///
/// # Panics
///
/// If no port is free.
#[must_use]
pub fn tcp(serve: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server(listener.local_addr().unwrap());
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), serve) = (stream, Arc::clone(&serve)) else { continue };
            thread::spawn(move || {
                // An error is expected: the client closes most of these connections.
                let _ = stream.set_nodelay(true).and_then(|()| serve(&mut stream));
            });
        }
    });
    server
}

/// Stalled connection: sends nothing until the client closes the connection.
///
/// # Errors
///
/// If the client resets the connection.
pub fn hold(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Slow-drip response: sends `piece` with a pause after each write until the client closes the
/// connection.
///
/// # Errors
///
/// Always: a failed write ends the loop.
pub fn drip(stream: &mut TcpStream, piece: &[u8], pause: Duration) -> io::Result<()> {
    loop {
        stream.write_all(piece)?;
        thread::sleep(pause);
    }
}

/// Flood: sends `piece` as fast as the client reads it until the client closes the connection.
///
/// # Errors
///
/// Always: a failed write ends the loop.
pub fn flood(stream: &mut TcpStream, piece: &[u8]) -> io::Result<()> {
    let many = piece.repeat(65_536_usize.div_ceil(piece.len()));
    loop {
        stream.write_all(&many)?;
    }
}

//! Servers that mean no good. Each connection is treated by a function, in a thread of its own.

mod http;
mod http2;
mod resp;
mod tls;

pub use http::{Path, bomb, http, respond};
pub use http2::Http2;
pub use resp::resp;
pub use tls::Tls;

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// A server on a port of its own. It serves until the tests end.
#[derive(Debug, Clone, Copy)]
pub struct Server(SocketAddr);

impl Server {
    /// Its port.
    #[must_use]
    pub fn port(self) -> u16 {
        self.0.port()
    }

    /// A URL, for a path that begins with `/`.
    #[must_use]
    pub fn url(self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }
}

/// Serves each connection.
///
/// # Panics
///
/// When there is no port left.
#[must_use]
pub fn tcp(serve: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server(listener.local_addr().unwrap());
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), serve) = (stream, Arc::clone(&serve)) else { continue };
            thread::spawn(move || {
                // That the other side goes away is how most of this ends.
                let _ = stream.set_nodelay(true).and_then(|()| serve(&mut stream));
            });
        }
    });
    server
}

/// Says nothing, until the other side goes away.
///
/// # Errors
///
/// When that breaks the connection.
pub fn hold(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Says the same again and again, with a pause after each time, until nobody listens.
///
/// # Errors
///
/// That is how it ends.
pub fn drip(stream: &mut TcpStream, piece: &[u8], pause: Duration) -> io::Result<()> {
    loop {
        stream.write_all(piece)?;
        thread::sleep(pause);
    }
}

/// Says the same as fast as it is taken, until nobody listens.
///
/// # Errors
///
/// That is how it ends.
pub fn flood(stream: &mut TcpStream, piece: &[u8]) -> io::Result<()> {
    let many = piece.repeat(65_536_usize.div_ceil(piece.len()));
    loop {
        stream.write_all(&many)?;
    }
}

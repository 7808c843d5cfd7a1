//! Connections, whatever they are made of.

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A connection, TLS or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether both sides have agreed on HTTP/2.
    fn is_http2(&self) -> bool {
        false
    }
}

impl Stream for TcpStream {}

impl Connection for Box<dyn Stream> {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.is_http2() { connected.negotiated_h2() } else { connected }
    }
}

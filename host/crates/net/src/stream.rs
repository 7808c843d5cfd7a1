//! Byte streams of connections, with or without TLS.

use crate::yielding_stream::YieldingStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};

/// Byte stream to a server, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns whether ALPN has negotiated HTTP/2.
    fn is_http2(&self) -> bool {
        false
    }
}

impl Stream for TcpStream {}

/// HTTP connection of a source. It holds a permit of the connection limit until it is closed, also while it is idle in
/// the pool.
pub(crate) type HttpConnection = YieldingStream<Box<dyn Stream>, OwnedSemaphorePermit>;

impl Connection for HttpConnection {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.get_ref().is_http2() { connected.negotiated_h2() } else { connected }
    }
}

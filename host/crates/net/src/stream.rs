//! Byte streams of connections, with or without TLS.

use hyper_util::client::legacy::connect::{Connected, Connection};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};

/// Byte stream of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns whether ALPN has negotiated HTTP/2.
    fn is_http2(&self) -> bool {
        false
    }
}

impl Stream for TcpStream {}

/// Stream that yields regularly, so that a server that sends without pause does not occupy a thread.
pub(crate) struct YieldingStream {
    stream: Box<dyn Stream>,
    /// Permit that counts the connection until it is closed, including while it is idle.
    _permit: OwnedSemaphorePermit,
    /// Bytes read since the last yield or pause.
    read_bytes: usize,
}

/// Number of bytes after which a read yields to other tasks of its thread.
const MAX_READ_WITHOUT_YIELD_BYTES: usize = 64 << 10;

impl YieldingStream {
    pub(crate) fn new(stream: Box<dyn Stream>, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, _permit: permit, read_bytes: 0 }
    }
}

impl Connection for YieldingStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.stream.is_http2() { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for YieldingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_bytes >= MAX_READ_WITHOUT_YIELD_BYTES {
            self.read_bytes = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        self.read_bytes = if result.is_pending() { 0 } else { self.read_bytes + read };
        result
    }
}

impl AsyncWrite for YieldingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! Connections, whatever they are made of.

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

/// A connection, TLS or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether both sides have agreed on HTTP/2.
    fn is_http2(&self) -> bool {
        false
    }
}

impl Stream for TcpStream {}

impl Connection for InTurns {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.stream.is_http2() { connected.negotiated_h2() } else { connected }
    }
}

/// Reads in turns: a server that sends without end is not to keep a thread to itself.
pub(crate) struct InTurns {
    stream: Box<dyn Stream>,
    /// It counts until it is closed, also while nobody uses it.
    _held: OwnedSemaphorePermit,
    /// Read without a pause, in bytes.
    read: usize,
}

/// After so many bytes without a pause, somebody else has a turn.
const TURN: usize = 64 << 10;

impl InTurns {
    pub(crate) fn new(stream: Box<dyn Stream>, held: OwnedSemaphorePermit) -> Self {
        Self { stream, _held: held, read: 0 }
    }
}

impl AsyncRead for InTurns {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read >= TURN {
            self.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.read =
            if result.is_pending() { 0 } else { self.read + buffer.filled().len() - before };
        result
    }
}

impl AsyncWrite for InTurns {
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

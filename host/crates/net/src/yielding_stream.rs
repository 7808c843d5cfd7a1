//! Byte stream that yields regularly to other tasks of its thread.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Stream that yields regularly, so that a server that sends without pause does not occupy a thread. `P` is a permit
/// that is held until the connection is closed.
pub(crate) struct YieldingStream<S, P> {
    stream: S,
    /// Bytes read since the stream last yielded or had no data.
    read_bytes: usize,
    _permit: P,
}

/// Number of bytes after which a read yields to other tasks of its thread.
const MAX_READ_WITHOUT_YIELD_BYTES: usize = 64 << 10;

impl<S, P> YieldingStream<S, P> {
    pub(crate) fn new(stream: S, permit: P) -> Self {
        Self { stream, read_bytes: 0, _permit: permit }
    }

    #[cfg(feature = "egress")]
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for YieldingStream<S, P> {
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

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for YieldingStream<S, P> {
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

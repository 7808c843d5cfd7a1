//! Accepted connections: TLS handshake, HTTP/1.1, timeouts, and the end of evicted connections.

use crate::{
    auth::Peer,
    connection_places::{ActiveRequest, Place, PlaceKind},
    tls::{ClientCertificate, Tls},
};
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::pending,
    mem,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::watch,
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use tracing::debug;

/// Time limit for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the wait for a request and the read of its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without progress after which a write to a client fails.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum lifetime of a connection above the connection limit (on a reserved place).
const RESERVED_PLACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of the request line and headers of a request, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Maximum number of headers of a request.
const MAX_HEADERS: usize = 64;
/// Maximum number of bytes of a response that are written before other tasks can run.
const CHUNK_BYTES: usize = 64 << 10;
/// Maximum size of a request body, in bytes. Bodies are read and discarded.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Time limit for reading a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepted connection, before the TLS handshake.
pub(crate) enum Accepted {
    /// TCP connection of a client on this machine (`is_local`) or on another machine.
    Tcp { stream: TcpStream, bound: SocketAddr, tls: Option<Arc<Tls>>, is_local: bool },
    /// Connection of a Unix socket.
    Unix(UnixStream, Peer),
}

/// Marks a request, as its extension, on a connection that has a reserved place: one above the connection limit. Such a
/// connection answers only short requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReservedPlace {
    /// `true` if the client runs on this machine.
    pub(crate) is_local: bool,
}

/// Data for serving one accepted connection: its place, the request router and the stop signal.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) place: Place,
    pub(crate) router: Router,
    /// Becomes `true` when the server stops.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Connection {
    /// Serves the connection until the client or the server ends it, or until it is evicted.
    pub(crate) async fn serve(self, accepted: Accepted) {
        let place = self.place.clone();
        let lifetime = async {
            match place.kind() {
                PlaceKind::Regular => pending().await,
                PlaceKind::Reserved => tokio::time::sleep(RESERVED_PLACE_TIMEOUT).await,
            }
        };
        let serving = async {
            match accepted {
                Accepted::Tcp { stream, bound, tls, is_local } => {
                    self.serve_tcp(stream, bound, tls, is_local).await;
                }
                Accepted::Unix(stream, peer) => {
                    self.serve_http(with_write_timeout(stream), peer, true).await;
                }
            }
        };
        tokio::select! {
            () = serving => {}
            () = place.evicted() => debug!("idle API connection evicted, connection limit reached"),
            () = lifetime => debug!(timeout = ?RESERVED_PLACE_TIMEOUT, "excess API connection closed after its time limit"),
        }
    }

    /// Serves a TCP connection, with a TLS handshake if `tls` is set. Closes it when the client certificate is no
    /// longer trusted.
    async fn serve_tcp(
        self,
        stream: TcpStream,
        bound: SocketAddr,
        tls: Option<Arc<Tls>>,
        is_local: bool,
    ) {
        let stream = with_write_timeout(stream);
        let Some(tls) = tls else {
            let peer = Peer::Network { bound, certificate: None };
            return self.serve_http(stream, peer, is_local).await;
        };
        let acceptor = TlsAcceptor::from(tls.server_config());
        match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificate = tls.client_certificate(stream.get_ref().1.peer_certificates());
                let certificate = certificate.map(Arc::new);
                let peer = Peer::Network { bound, certificate: certificate.clone() };
                tokio::select! {
                    () = self.serve_http(stream, peer, is_local) => {}
                    () = revoked(certificate.as_deref()) => {
                        debug!("API connection closed, client certificate no longer trusted");
                    }
                }
            }
            Ok(Err(error)) => debug!(%error, "TLS handshake with an API client failed"),
            Err(_) => {
                debug!(timeout = ?HANDSHAKE_TIMEOUT, "TLS handshake with an API client timed out")
            }
        }
    }

    /// Serves HTTP/1.1 on a connection until the client or `stop` ends it.
    async fn serve_http(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        is_local: bool,
    ) {
        let is_reserved = self.place.kind() == PlaceKind::Reserved;
        let mut stop = self.stop.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(peer.clone());
            if is_reserved {
                extensions.insert(ReservedPlace { is_local });
            }
            self.clone().respond(request)
        });
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADER_BYTES)
                .max_headers(MAX_HEADERS)
                .keep_alive(!is_reserved)
                .serve_connection(TokioIo::new(stream), service)
        );
        let ended = tokio::select! {
            ended = &mut connection => ended,
            _ = stop.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "API connection ended with an error");
        }
    }

    /// Returns the response to a request. Until the request body is read, the connection counts as idle and may be
    /// evicted.
    async fn respond(
        mut self,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let (parts, body) = request.into_parts();
        discard_body(body).await;
        let active = self.place.begin_request();
        let response = self.router.call(Request::from_parts(parts, Body::empty())).await?;
        Ok(response.map(|body| ResponseBody {
            body,
            rest: Bytes::new(),
            must_yield: false,
            active: Some(active),
        }))
    }
}

/// Returns a stream whose writes fail after [`WRITE_TIMEOUT`] without progress.
fn with_write_timeout<S: AsyncRead + AsyncWrite>(stream: S) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(stream)
}

/// Waits until a client certificate is no longer trusted. Never returns if there is no certificate.
async fn revoked(certificate: Option<&ClientCertificate>) {
    match certificate {
        Some(certificate) => certificate.revoked().await,
        None => pending().await,
    }
}

/// Reads and discards a request body. No endpoint uses a body, but some clients send one. If the body is not read,
/// hyper closes the connection, and the client's next request fails.
async fn discard_body(body: Incoming) {
    if !body.is_end_stream() {
        let _ = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    }
}

/// Response body that keeps the connection active until the last byte of the body is written. The body is written in
/// chunks, so that other tasks can run between two chunks.
struct ResponseBody {
    body: Body,
    /// Bytes of the last frame of `body` that are not returned yet.
    rest: Bytes,
    /// `true` after a chunk, until the task has yielded to other tasks.
    must_yield: bool,
    /// Guard that keeps the connection active. The last chunk takes the guard, and holds it while the bytes of the
    /// chunk wait in the write buffer.
    active: Option<ActiveRequest>,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if mem::take(&mut self.must_yield) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(CHUNK_BYTES);
        let mut chunk = self.rest.split_to(length);
        self.must_yield = !self.rest.is_empty();
        if self.is_end_stream() {
            chunk = Bytes::from_owner(ActiveBytes { chunk, _active: self.active.take() });
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // hyper calls this function before the first frame, while `rest` is empty.
        self.body.size_hint()
    }
}

/// Bytes that keep the connection active until they are dropped.
struct ActiveBytes {
    chunk: Bytes,
    _active: Option<ActiveRequest>,
}

impl AsRef<[u8]> for ActiveBytes {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connection_limits_from_open_files::PlaceLimits, connection_places::Places};

    fn response_body(place: &Place, length: usize) -> ResponseBody {
        let body = Body::from(vec![7; length]);
        let active = Some(place.begin_request());
        ResponseBody { body, rest: Bytes::new(), must_yield: false, active }
    }

    /// A long body is written in chunks, and other tasks run between two of them.
    #[tokio::test]
    async fn long_body_yields_between_chunks() {
        let place = Places::new(PlaceLimits::MAX).acquire().await;
        let mut body = response_body(&place, 2 * CHUNK_BYTES + 1);
        let (mut chunks, mut yields) = (Vec::new(), 0);
        let mut context = Context::from_waker(std::task::Waker::noop());
        loop {
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Ready(Some(frame)) => {
                    let frame = frame.expect("the body is in memory");
                    chunks.push(frame.into_data().expect("data").len());
                }
                Poll::Ready(None) => break,
                Poll::Pending => yields += 1,
            }
        }
        assert_eq!((&*chunks, yields), (&[CHUNK_BYTES, CHUNK_BYTES, 1][..], 2));
    }

    /// The last bytes may wait in the write buffer after the body is dropped. The connection stays active until then.
    #[tokio::test]
    async fn connection_is_active_until_last_bytes_are_dropped() {
        let place = Places::new(PlaceLimits::MAX).acquire().await;
        let mut body = response_body(&place, 1);
        let last = body.frame().await.expect("a frame").expect("the body is in memory");
        drop(body);
        assert!(!place.is_idle());
        drop(last);
        assert!(place.is_idle());
    }
}

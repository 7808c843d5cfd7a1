//! Listening sockets and their connections: limits, timeouts, TLS handshake, graceful shutdown.

use crate::{
    auth::Peer,
    http_metrics::HttpMetrics,
    insecure_reload_veto::BoundSocket,
    private_socket,
    tls::{ClientCertificate, Tls},
};
use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use reloader_app::{Handle, ListenAddress};
use reloader_util::token_bucket::TokenBucket;
use std::{
    future::pending,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use tracing::{debug, warn};

/// Time limit for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit from the end of a request to the end of the next request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without progress after which a write to a client fails.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Upper bound of the request line and headers of a request.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Upper bound of the headers of a request.
const MAX_HEADERS: usize = 64;
/// Minimum time between two warnings about the connection limit.
const LIMIT_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Delay before the next `accept` after an error.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Time limit for responses that are in progress when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Bound socket.
pub(crate) enum Listener {
    /// TCP socket, the address that it is bound to, and TLS if it is used.
    Tcp(TcpListener, SocketAddr, Option<Arc<Tls>>),
    /// Unix socket, its path, and its kind.
    Unix(UnixListener, PathBuf, Peer),
}

impl Listener {
    /// Binds the socket of the API.
    pub(crate) async fn bind(address: &ListenAddress, tls: Option<Arc<Tls>>) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let bound = listener.local_addr()?;
                Ok(Self::Tcp(listener, bound, tls))
            }
            ListenAddress::Unix(path) => {
                Ok(Self::Unix(private_socket::bind(path).await?, path.clone(), Peer::UnixSocket))
            }
        }
    }

    /// Binds the control socket. Its clients have all permissions.
    pub(crate) async fn control(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(private_socket::bind(path).await?, path.into(), Peer::ControlSocket))
    }

    /// Returns the bound address. If the configured port is 0, it has the port that the system has assigned.
    pub(crate) fn address(&self) -> ListenAddress {
        match self {
            Self::Tcp(_, bound, _) => ListenAddress::Tcp(*bound),
            Self::Unix(_, path, _) => ListenAddress::Unix(path.clone()),
        }
    }

    /// Returns the TLS state of the socket; `None` if it does not use TLS.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        match self {
            Self::Tcp(_, _, tls) => tls.as_ref(),
            Self::Unix(..) => None,
        }
    }

    /// Returns the reload veto of a TCP socket. A Unix socket needs none, since it requires no credentials.
    pub(crate) fn bound_socket(&self, handle: &Handle) -> Option<BoundSocket> {
        match self {
            Self::Tcp(_, address, tls) => {
                let config = handle.config_changes();
                Some(BoundSocket { address: *address, uses_tls: tls.is_some(), config })
            }
            Self::Unix(..) => None,
        }
    }

    /// Serves connections until `stop` changes. Then it accepts no more requests, and waits up to
    /// [`SHUTDOWN_TIMEOUT`] for responses in progress.
    pub(crate) async fn serve(
        self,
        router: Router,
        http_metrics: HttpMetrics,
        mut stop: watch::Receiver<bool>,
    ) {
        let limit = http_metrics.max_connections();
        let permits = Arc::new(Semaphore::new(limit as usize));
        let mut open = JoinSet::new();
        let mut warnings = TokenBucket::new(1, LIMIT_WARNING_INTERVAL, Instant::now());
        loop {
            while open.try_join_next().is_some() {}
            if permits.available_permits() == 0 && warnings.try_take(Instant::now()) {
                warn!(
                    limit,
                    "connection limit reached; new connections wait (`listen.connections`)"
                );
            }
            let permit = tokio::select! {
                permit = Arc::clone(&permits).acquire_owned() => permit,
                _ = stop.changed() => break,
            };
            let Ok(permit) = permit else { break };
            let (router, connection_stop) = (router.clone(), stop.clone());
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                _ = stop.changed() => break,
            };
            match accepted {
                Ok(Accepted::Tcp(stream, bound, tls)) => {
                    let guards = (permit, http_metrics.count_connection());
                    open.spawn(async move {
                        serve_tcp(stream, bound, tls, router, connection_stop).await;
                        drop(guards);
                    });
                }
                Ok(Accepted::Unix(stream, peer)) => {
                    let guards = (permit, http_metrics.count_connection());
                    open.spawn(async move {
                        let stream = Box::pin(with_write_timeout(stream));
                        serve_http(stream, peer, router, connection_stop).await;
                        drop(guards);
                    });
                }
                // The error may be transient, such as too many open files.
                Err(error) => {
                    debug!(%error, "accept failed");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        if let Self::Unix(_, path, _) = &self {
            let _ = std::fs::remove_file(path);
        }
        let finished = async { while open.join_next().await.is_some() {} };
        let _ = timeout(SHUTDOWN_TIMEOUT, finished).await;
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, bound, tls) => {
                let (stream, _) = listener.accept().await?;
                // Nagle's algorithm would delay small events.
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, *bound, tls.clone()))
            }
            Self::Unix(listener, _, peer) => {
                Ok(Accepted::Unix(listener.accept().await?.0, peer.clone()))
            }
        }
    }
}

/// Accepted connection.
enum Accepted {
    Tcp(tokio::net::TcpStream, SocketAddr, Option<Arc<Tls>>),
    Unix(tokio::net::UnixStream, Peer),
}

/// Returns a stream whose writes fail after [`WRITE_TIMEOUT`] without progress.
fn with_write_timeout<S: AsyncRead + AsyncWrite>(stream: S) -> TimeoutStream<S> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    stream
}

/// Serves a TCP connection, with a TLS handshake if `tls` is set. Closes it when the client certificate is no
/// longer trusted.
async fn serve_tcp(
    stream: tokio::net::TcpStream,
    bound: SocketAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    let stream = Box::pin(with_write_timeout(stream));
    let Some(tls) = tls else {
        return serve_http(stream, Peer::Network { bound, certificate: None }, router, stop).await;
    };
    let acceptor = TlsAcceptor::from(tls.server_config());
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = tls.client_certificate(stream.get_ref().1.peer_certificates());
            let certificate = certificate.map(Arc::new);
            let peer = Peer::Network { bound, certificate: certificate.clone() };
            tokio::select! {
                () = serve_http(stream, peer, router, stop) => {}
                () = revoked(certificate.as_deref()) => {
                    debug!("API connection closed, since its client certificate is no longer trusted");
                }
            }
        }
        Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
        Err(_) => debug!(timeout = ?HANDSHAKE_TIMEOUT, "TLS handshake timed out"),
    }
}

/// Waits until a client certificate is no longer trusted. Never returns if there is no certificate.
async fn revoked(certificate: Option<&ClientCertificate>) {
    match certificate {
        Some(certificate) => certificate.revoked().await,
        None => pending().await,
    }
}

/// Serves HTTP/1.1 on a connection until the client or `stop` ends it.
async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request.map(Body::new))
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
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

//! Connections: who may have one, how many there are, and for how long.

use crate::control_socket;
use crate::{
    auth::Peer,
    http_metrics::Traffic,
    reload_check::BoundSocket,
    tls::{ClientCertificate, Tls},
};
use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use reloader_app::ListenAddress;
use std::{
    future::pending,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use tracing::{debug, warn};

/// Who connects has so long for TLS,
const HANDSHAKE: Duration = Duration::from_secs(10);
/// for a request, from the end of the one before,
const HEADERS: Duration = Duration::from_secs(30);
/// and to take some of an answer.
const WRITE: Duration = Duration::from_secs(30);
/// A request's line and headers are no longer, in bytes, …
const HEADERS_MAX: usize = 16 << 10;
/// … and no more.
const HEADERS_COUNT: usize = 64;
/// That there are too many is not said again before.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// At the end, answers have so long.
const STOP: Duration = Duration::from_secs(3);

/// Where connections come from.
pub(crate) enum Listener {
    Tcp(TcpListener, SocketAddr, Option<Arc<Tls>>),
    Unix(UnixListener, PathBuf, Peer),
}

impl Listener {
    pub(crate) async fn bind(address: &ListenAddress, tls: Option<Arc<Tls>>) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let bound = listener.local_addr()?;
                Ok(Self::Tcp(listener, bound, tls))
            }
            ListenAddress::Unix(path) => {
                Ok(Self::Unix(control_socket::listen(path).await?, path.clone(), Peer::UnixSocket))
            }
        }
    }

    /// For whoever may open this socket, who may do everything.
    pub(crate) async fn control(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(control_socket::listen(path).await?, path.into(), Peer::ControlSocket))
    }

    /// Where it listens: with the port that it was given, if it asked for any.
    pub(crate) fn address(&self) -> ListenAddress {
        match self {
            Self::Tcp(_, bound, _) => ListenAddress::Tcp(*bound),
            Self::Unix(_, path, _) => ListenAddress::Unix(path.clone()),
        }
    }

    /// Returns TLS of the socket, if it uses TLS.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        match self {
            Self::Tcp(_, _, tls) => tls.as_ref(),
            Self::Unix(..) => None,
        }
    }

    /// Returns what a new configuration has to fit; a Unix socket needs no credentials.
    pub(crate) fn bound_socket(&self) -> Option<BoundSocket> {
        match self {
            Self::Tcp(_, address, tls) => {
                Some(BoundSocket { address: *address, uses_tls: tls.is_some() })
            }
            Self::Unix(..) => None,
        }
    }

    /// Serves until it is told to stop: then no other request is taken, and those that are being answered
    /// have a moment.
    pub(crate) async fn serve(
        self,
        router: Router,
        traffic: Traffic,
        mut stop: watch::Receiver<bool>,
    ) {
        let connections = traffic.bound();
        let places = Arc::new(Semaphore::new(connections as usize));
        let mut open = JoinSet::new();
        let mut said_at: Option<Instant> = None;
        loop {
            while open.try_join_next().is_some() {}
            let is_said = said_at.is_some_and(|at| at.elapsed() < SAID_AGAIN);
            if places.available_permits() == 0 && !is_said {
                said_at = Some(Instant::now());
                warn!("{connections} connections are open, and others wait (`connections`)");
            }
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                _ = stop.changed() => break,
            };
            let Ok(place) = place else { break };
            let (router, stop_too) = (router.clone(), stop.clone());
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                _ = stop.changed() => break,
            };
            match accepted {
                Ok(Accepted::Tcp(stream, bound, tls)) => {
                    let place = (place, traffic.opened());
                    open.spawn(async move {
                        of_network(stream, bound, tls, router, stop_too).await;
                        drop(place);
                    });
                }
                Ok(Accepted::Unix(stream, peer)) => {
                    let place = (place, traffic.opened());
                    open.spawn(async move {
                        converse(Box::pin(timed(stream)), peer, router, stop_too).await;
                        drop(place);
                    });
                }
                // Too many files are open, for example: that may pass.
                Err(error) => {
                    debug!("no connection could be taken: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        if let Self::Unix(_, path, _) = &self {
            let _ = std::fs::remove_file(path);
        }
        let _ = timeout(STOP, async { while open.join_next().await.is_some() {} }).await;
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, bound, tls) => {
                let (stream, _) = listener.accept().await?;
                // What there is to say is said at once.
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, *bound, tls.clone()))
            }
            Self::Unix(listener, _, peer) => {
                Ok(Accepted::Unix(listener.accept().await?.0, peer.clone()))
            }
        }
    }
}

enum Accepted {
    Tcp(tokio::net::TcpStream, SocketAddr, Option<Arc<Tls>>),
    Unix(tokio::net::UnixStream, Peer),
}

/// Whoever does not take what is written for too long is left.
fn timed<S: AsyncRead + AsyncWrite>(stream: S) -> TimeoutStream<S> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE));
    stream
}

async fn of_network(
    stream: tokio::net::TcpStream,
    bound: SocketAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    let stream = Box::pin(timed(stream));
    let Some(tls) = tls else {
        return converse(stream, Peer::Network { bound, certificate: None }, router, stop).await;
    };
    let acceptor = TlsAcceptor::from(tls.server_config());
    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = tls.client_certificate(stream.get_ref().1.peer_certificates());
            let certificate = certificate.map(Arc::new);
            let peer = Peer::Network { bound, certificate: certificate.clone() };
            tokio::select! {
                () = converse(stream, peer, router, stop) => {}
                () = revoked(certificate.as_deref()) => {
                    debug!("connection closed: the client certificate is not trusted any more");
                }
            }
        }
        Ok(Err(error)) => debug!("a connection by TLS came to nothing: {error}"),
        Err(_) => debug!("a connection by TLS took longer than {HANDSHAKE:?}"),
    }
}

/// Waits until a client certificate is not trusted any more; without one, for ever.
async fn revoked(certificate: Option<&ClientCertificate>) {
    match certificate {
        Some(certificate) => certificate.revoked().await,
        None => pending().await,
    }
}

async fn converse(
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
            .header_read_timeout(HEADERS)
            .max_buf_size(HEADERS_MAX)
            .max_headers(HEADERS_COUNT)
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
        debug!("a connection has ended: {error}");
    }
}

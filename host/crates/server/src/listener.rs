//! Listening sockets: bind, accept connections within the limit, graceful shutdown.

use crate::{
    auth::Peer,
    blocking_operation_pool::POOL,
    connection::{Accepted, Connection},
    connection_limits_from_open_files::PlaceLimits,
    connection_places::Places,
    http_metrics::HttpMetrics,
    insecure_reload_veto::BoundSocket,
    private_socket,
    tls::Tls,
};
use axum::Router;
use reloader_app::{Handle, ListenAddress};
use reloader_util::token_bucket::TokenBucket;
use std::{
    fs,
    future::pending,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

/// Minimum time between two warnings about the connection limit.
const LIMIT_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Delay before the next `accept` after an error.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Interval at which the file of a Unix socket is checked.
const SOCKET_FILE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Time limit for responses that are in progress when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Bound listening socket, which accepts the connections of clients.
pub(crate) enum Listener {
    /// TCP socket, the address that it is bound to, and TLS if it is used.
    Tcp(TcpListener, SocketAddr, Option<Arc<Tls>>),
    /// Unix socket, its path, and whether it is the control socket or the socket of the API.
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

    /// Returns the bound address. If the configured port is 0, the address has the port that the system has assigned.
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

    /// Returns the reload veto of a TCP socket. A Unix socket needs no veto, since its clients need no credentials.
    pub(crate) fn bound_socket(&self, handle: &Handle) -> Option<BoundSocket> {
        match self {
            Self::Tcp(_, address, tls) => {
                let config = handle.config_changes();
                Some(BoundSocket { address: *address, uses_tls: tls.is_some(), config })
            }
            Self::Unix(..) => None,
        }
    }

    /// Serves connections until `stop` changes. Then the listener accepts no more requests, and waits up to
    /// [`SHUTDOWN_TIMEOUT`] for responses in progress.
    pub(crate) async fn serve(
        mut self,
        router: Router,
        limits: PlaceLimits,
        http_metrics: HttpMetrics,
        mut stop: watch::Receiver<bool>,
    ) {
        let places = Places::new(limits);
        let mut open = JoinSet::new();
        let mut warnings = TokenBucket::new(1, LIMIT_WARNING_INTERVAL, Instant::now());
        let path = match &self {
            Self::Unix(_, path, _) => Some(path.clone()),
            Self::Tcp(..) => None,
        };
        let mut rebinding = pin!(bind_after_removal(path.as_deref()));
        loop {
            while open.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                bound = &mut rebinding => {
                    if let Self::Unix(listener, ..) = &mut self {
                        *listener = bound;
                    }
                    rebinding.set(bind_after_removal(path.as_deref()));
                    continue;
                }
                _ = stop.changed() => break,
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                // The error may be transient, such as too many open files.
                Err(error) => {
                    debug!(%error, "accepting an API connection failed");
                    sleep(ACCEPT_RETRY_DELAY).await;
                    continue;
                }
            };
            let place = tokio::select! {
                place = places.acquire() => place,
                _ = stop.changed() => break,
            };
            if place.is_at_limit() && warnings.try_take(Instant::now()) {
                warn!(
                    limit = limits.regular,
                    "connection limit reached; idle connections are closed, requests may be rejected (`listen.connections`)"
                );
            }
            let connection = Connection { place, router: router.clone(), stop: stop.clone() };
            let open_connection = http_metrics.count_connection();
            open.spawn(async move {
                connection.serve(accepted).await;
                drop(open_connection);
            });
        }
        let removed = async {
            if let Some(path) = &path {
                private_socket::remove(path).await;
            }
        };
        let finished = async { while open.join_next().await.is_some() {} };
        let _ = tokio::join!(removed, timeout(SHUTDOWN_TIMEOUT, finished));
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, bound, tls) => {
                let (stream, client) = listener.accept().await?;
                // Nagle's algorithm would delay small events.
                stream.set_nodelay(true)?;
                let (bound, tls) = (*bound, tls.clone());
                let is_local = client.ip().to_canonical().is_loopback();
                Ok(Accepted::Tcp { stream, bound, tls, is_local })
            }
            Self::Unix(listener, _, peer) => {
                Ok(Accepted::Unix(listener.accept().await?.0, peer.clone()))
            }
        }
    }
}

/// Waits until the file of a Unix socket is removed, for example together with the state directory, and binds the
/// socket again. Without a path, waits forever.
async fn bind_after_removal(path: Option<&Path>) -> UnixListener {
    let Some(path) = path else { return pending().await };
    loop {
        sleep(SOCKET_FILE_CHECK_INTERVAL).await;
        let checked = path.to_owned();
        let is_removed = POOL.spawn(move || {
            let file = fs::symlink_metadata(&checked);
            file.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        });
        if is_removed.await != Ok(true) {
            continue;
        }
        let shown = path.display();
        match private_socket::bind(path).await {
            Ok(bound) => {
                info!(path = %shown, "Unix socket file was removed, socket bound again");
                return bound;
            }
            // The directory of the socket may be missing, too. The state store creates the state directory again.
            Err(error) => {
                debug!(path = %shown, %error, "Unix socket file was removed, binding the socket again failed")
            }
        }
    }
}

//! Server of a running configuration: start, sockets, graceful stop.

use crate::{
    blocking_operation_pool::POOL, coalesced_response_builds::SharedResponses,
    connection_limits_from_open_files::ConnectionLimits, etag::Tags, event_log::EventLog,
    event_log_updater::Updater, http_metrics::HttpMetrics, insecure_reload_veto::BoundSocket,
    listener::Listener, metrics, render_pool::RenderPool, response_budget::ResponseBudget,
    router::router, shared_state::SharedState, tls::Tls,
};
use reloader_app::{Handle, ListenAddress, ListenTable, control_socket};
use std::{io, path::Path, sync::Arc};
use tokio::{sync::watch, task::JoinHandle};
use tracing::{info, warn};

/// Running HTTP server. Dropping the server aborts all connections; [`Server::stop`] stops it gracefully.
#[derive(Debug)]
pub struct Server {
    address: Option<ListenAddress>,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
    /// Tasks that are aborted when the server is dropped.
    background: Vec<JoinHandle<()>>,
    _bound_socket: Option<Arc<BoundSocket>>,
}

/// Reason why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The `[listen]` table is unsafe, or its certificates are unusable.
    #[error("{0}")]
    Settings(String),
    /// The listening socket cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Address of the socket.
        address: ListenAddress,
        /// Error of the operating system.
        error: io::Error,
    },
}

impl Server {
    /// Starts to serve a running configuration, on the address in its `[listen]` table and on the control socket.
    ///
    /// If the control socket cannot be bound, the server logs a warning and serves without it.
    ///
    /// # Errors
    ///
    /// Returns an error if the `[listen]` table is unsafe, a certificate is unusable, or the address cannot be
    /// bound.
    pub async fn start(handle: Handle) -> Result<Self, ServeError> {
        let config = handle.config();
        let listener = bind(&config.listen, &handle).await?;
        let address = listener.as_ref().map(Listener::address);
        let bound_socket =
            listener.as_ref().and_then(|listener| listener.bound_socket(&handle)).map(Arc::new);
        if let Some(veto) = &bound_socket {
            handle.add_reload_veto(veto);
        }
        let (stop, stopped) = watch::channel(false);
        let tags = Arc::<Tags>::default();
        let (render_pool, budget) = (Arc::new(RenderPool::new()), Arc::new(ResponseBudget::new()));
        let (events, update_requests) =
            EventLog::new(handle.clone(), Arc::clone(&tags), stopped.clone());
        let updater = Updater::new(Arc::clone(&events), update_requests, Arc::clone(&render_pool));
        let limits = ConnectionLimits::of_process(config.listen.connections);
        let http_metrics = HttpMetrics::default();
        metrics::record_start_time();
        let router = router(Arc::new(SharedState {
            handle,
            events,
            http_metrics: http_metrics.clone(),
            responses: SharedResponses::new(Arc::clone(&render_pool), Arc::clone(&budget)),
            budget,
            render_pool,
            tags,
            stop: stopped.clone(),
        }));
        let (mut serving, mut background) = (Vec::new(), vec![tokio::spawn(updater.run())]);
        if let Some(listener) = listener {
            background.extend(listener.tls().map(|tls| tokio::spawn(Arc::clone(tls).follow())));
            serving.push(tokio::spawn(listener.serve(
                router.clone(),
                limits.api,
                http_metrics,
                stopped.clone(),
            )));
        }
        if let Some(path) = control_socket(&config)
            && let Some(listener) = bind_control_socket(&path).await
        {
            let http_metrics = HttpMetrics::default();
            serving.push(tokio::spawn(listener.serve(
                router,
                limits.control,
                http_metrics,
                stopped,
            )));
        }
        Ok(Self { address, stop, serving, background, _bound_socket: bound_socket })
    }

    /// Returns the address of the API, with the port that was bound; `None` if the configuration has no address.
    #[must_use]
    pub fn address(&self) -> Option<&ListenAddress> {
        self.address.as_ref()
    }

    /// Stops the server gracefully: it accepts no more connections, and waits up to 3 seconds for responses.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for serving in &mut self.serving {
            let _ = serving.await;
        }
    }
}

/// Binds the address of the `[listen]` table; returns `None` if the table has no address.
async fn bind(listen: &ListenTable, handle: &Handle) -> Result<Option<Listener>, ServeError> {
    let Some(address) = listen.address.clone() else { return Ok(None) };
    if let Some(error) = listen.address_error() {
        return Err(ServeError::Settings(error));
    }
    let tls = match listen.tls.clone() {
        None => None,
        Some(settings) => {
            let config = handle.config_changes();
            let tls = POOL.spawn(move || Tls::new(settings, config)).await;
            let tls = tls.map_err(|error| ServeError::Settings(error.to_string()))?;
            Some(Arc::new(tls.map_err(ServeError::Settings)?))
        }
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = Listener::bind(&address, tls).await;
    let listener = listener.map_err(|error| ServeError::Listen { address, error })?;
    match &listener.address() {
        ListenAddress::Tcp(address) => {
            info!(url = %format_args!("{scheme}://{address}"), "API listening")
        }
        address @ ListenAddress::Unix(_) => info!(url = %address, "API listening"),
    }
    Ok(Some(listener))
}

/// Binds the control socket; returns `None` if that fails. The host works without a control socket.
async fn bind_control_socket(path: &Path) -> Option<Listener> {
    match Listener::control(path).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            let path = path.display();
            warn!(
                %path,
                %error,
                "control socket not available; `status`, `get` and other requests to this host require `--url`"
            );
            None
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.background.iter().chain(&self.serving).for_each(JoinHandle::abort);
    }
}

//! HTTP API of a running host: status, values, events, health, metrics, and the web page.
//!
//! A [`Server`] serves a running configuration on the address in its `[listen]` table, and on the control socket.
//! The crate accesses the running sources and sinks only through [`Handle`]. A program without an API does not
//! need the crate.
//!
//! ```no_run
//! # async fn f(app: reloader_app::App) -> Result<(), Box<dyn std::error::Error>> {
//! let server = reloader_server::Server::start(app.handle()).await?;
//! println!("{:?}", server.address());
//! # Ok(())
//! # }
//! ```

mod api;
mod auth;
mod control_socket;
mod diff;
mod etag;
mod events;
mod health;
mod http_metrics;
mod listener;
mod metrics;
mod openapi;
mod problem;
mod reload_check;
mod response_budget;
mod tls;
mod ui;

pub use metrics::catalog::{
    FAILURES, Failures, NumberUnit, Numbers, SinkNumber, SourceNumber, SourceTimes,
};

use auth::{Caller, Peer, parse_credential, reject_cross_origin, reject_dns_rebinding};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use etag::Tags;
use events::EventLog;
use http::{HeaderValue, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use http_metrics::HttpMetrics;
use listener::Listener;
use problem::Problem;
use reload_check::BoundSocket;
use reloader_app::{Handle, ListenAddress, ListenTable, control_socket};
use reloader_source::telemetry::span;
use response_budget::ResponseBudget;
use std::{io, path::Path, sync::Arc, time::Duration};
use tls::Tls;
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tracing::{Instrument, info, warn};

/// Running HTTP server. Dropping the server aborts all connections; [`Server::stop`] stops it gracefully.
#[derive(Debug)]
pub struct Server {
    address: Option<ListenAddress>,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
    /// Tasks that are aborted when the server is dropped.
    background: Vec<JoinHandle<()>>,
    _reload_check: Option<Arc<BoundSocket>>,
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

/// State that all request handlers share.
struct Shared {
    handle: Handle,
    events: Arc<EventLog>,
    http_metrics: HttpMetrics,
    budget: ResponseBudget,
    tags: Arc<Tags>,
    stop: watch::Receiver<bool>,
}

/// Paths that need no credential, in addition to the files of the web page.
const PUBLIC_PATHS: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// Upper bound of a request body. Bodies are read and discarded.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Time limit for reading a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Upper bound of concurrent connections to the control socket.
const MAX_CONTROL_CONNECTIONS: u32 = 64;

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
        let reload_check =
            listener.as_ref().and_then(|listener| listener.bound_socket(&handle)).map(Arc::new);
        if let Some(check) = &reload_check {
            handle.add_reload_check(check);
        }
        let (stop, stopped) = watch::channel(false);
        let tags = Arc::<Tags>::default();
        let events = EventLog::new(handle.clone(), Arc::clone(&tags), stopped.clone());
        let http_metrics = HttpMetrics::new(connection_limit(config.listen.connections));
        metrics::record_start_time();
        let router = router(Arc::new(Shared {
            handle,
            events: Arc::clone(&events),
            http_metrics: http_metrics.clone(),
            budget: ResponseBudget::new(),
            tags,
            stop: stopped.clone(),
        }));
        let (mut serving, mut background) = (Vec::new(), vec![tokio::spawn(events.run())]);
        if let Some(listener) = listener {
            background.extend(listener.tls().map(|tls| tokio::spawn(Arc::clone(tls).follow())));
            serving.push(tokio::spawn(listener.serve(
                router.clone(),
                http_metrics,
                stopped.clone(),
            )));
        }
        if let Some(path) = control_socket(&config)
            && let Some(listener) = bind_control_socket(&path).await
        {
            let http_metrics = HttpMetrics::new(MAX_CONTROL_CONNECTIONS);
            serving.push(tokio::spawn(listener.serve(router, http_metrics, stopped)));
        }
        Ok(Self { address, stop, serving, background, _reload_check: reload_check })
    }

    /// Returns the address of the API, with the port that was bound; `None` if the configuration has none.
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
    if let Some(problem) = listen.problem() {
        return Err(ServeError::Settings(problem));
    }
    let tls = match listen.tls.clone() {
        None => None,
        Some(settings) => {
            let config = handle.config_changes();
            let tls = spawn_blocking(move || Tls::new(settings, config)).await;
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

/// Returns the connection limit: `configured`, but at most half of the open-file limit of the process. The other
/// half is for everything else that the host opens.
fn connection_limit(configured: u32) -> u32 {
    use rustix::process::{Resource, getrlimit};
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let limit = u32::try_from(open_files / 2).unwrap_or(u32::MAX);
    if configured > limit && configured != ListenTable::default().connections {
        warn!(
            limit,
            configured, open_files, "connection limit reduced by the open-file limit (`ulimit -n`)"
        );
    }
    configured.min(limit)
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
                "control socket unavailable; `host status` and the other remote commands do not work"
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

fn router(shared: Arc<Shared>) -> Router {
    api::routes()
        .merge(diff::routes())
        .merge(health::routes())
        .merge(metrics::routes())
        .merge(ui::routes())
        .merge(openapi::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&shared), authenticate))
        .with_state(shared)
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found(format!(
        "unknown path `{}`; `/openapi.json` describes all paths",
        uri.path()
    ))
}

async fn method_not_allowed() -> Problem {
    let detail = "this path does not support the method; `/openapi.json` describes the methods";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// Middleware of all requests: authenticates the caller, rejects cross-origin requests, accounts for the memory
/// of the response, counts the request, and sets the headers that all responses have.
async fn authenticate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    discard_body(body).await;
    let mut request = Request::from_parts(parts, Body::empty());
    let mut response = match check_request(&shared, &request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let span = span!("request", otel.kind = "server", %method, path);
            shared.budget.account(next.run(request).instrument(span).await)
        }
        Err(problem) => problem.into_response(),
    };
    shared.http_metrics.count_request(response.status());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Reads and discards a request body. No request needs one, but some clients send one. hyper would close the
/// connection because of an unread body, and the client's next request would fail.
async fn discard_body(body: Body) {
    if !body.is_end_stream() {
        let _ = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    }
}

/// Returns the authenticated caller; `None` if the path is public and the request has no valid credential.
fn check_request(shared: &Shared, request: &Request) -> Result<Option<Caller>, Problem> {
    let peer = request.extensions().get::<Peer>().cloned().ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request has no connection data")
    })?;
    let (config, headers) = (shared.handle.config(), request.headers());
    let path = request.uri().path();
    let is_page_file = ui::is_page_file(path);
    if !is_page_file {
        reject_cross_origin(headers, request.uri())?;
    }
    reject_dns_rebinding(headers, request.uri(), &peer, &config)?;
    let caller = parse_credential(headers)
        .and_then(|credential| Caller::authenticate(&config, peer, credential));
    if is_page_file || PUBLIC_PATHS.contains(&path) {
        return Ok(caller.ok());
    }
    let caller = caller?;
    if shared.handle.is_stopping() {
        let detail = "the host is stopping; retry after its restart";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    Ok(Some(caller))
}

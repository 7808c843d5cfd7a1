//! HTTP API of a running host: status, values, events, health, metrics, and the page.
//!
//! A crate of its own, because it sees what runs by [`Handle`] alone, and a host without an API builds none.
//!
//! A [`Server`] serves a running configuration as its table `[listen]` says, and at its control socket.
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

use auth::{Caller, Peer, credential, not_by_other_names, not_from_other_pages};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use etag::Tags;
use events::Board;
use http::{HeaderValue, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use http_metrics::Traffic;
use listener::Listener;
use problem::Problem;
use reload_check::BoundSocket;
use reloader_app::{Handle, ListenAddress, ListenTable, control_socket};
use reloader_source::telemetry::span;
use response_budget::Room;
use std::{io, path::Path, sync::Arc, time::Duration};
use tls::Tls;
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tracing::{Instrument, info, warn};

/// Serves until it is stopped.
#[derive(Debug)]
pub struct Server {
    address: Option<ListenAddress>,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
    /// Tasks that end when this is dropped.
    background: Vec<JoinHandle<()>>,
    _reload_check: Option<Arc<BoundSocket>>,
}

/// Nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings do not allow for it.
    #[error("{0}")]
    Settings(String),
    /// There is no listening there.
    #[error("`{address}` cannot be listened at: {error}")]
    Listen {
        /// Where.
        address: ListenAddress,
        /// What the system says.
        error: io::Error,
    },
}

/// What all requests have in common.
struct Shared {
    handle: Handle,
    board: Arc<Board>,
    traffic: Traffic,
    room: Room,
    tags: Arc<Tags>,
    stop: watch::Receiver<bool>,
}

/// What is answered without knowing who asks, besides the page.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// So much of a body is taken, in bytes, …
const BODY_MAX: usize = 64 << 10;
/// … and it is waited so long for it.
const TAKE: Duration = Duration::from_secs(5);

/// So many connections at a time has the control socket.
const CONTROLS: u32 = 64;

impl Server {
    /// Serves a running configuration: as it says, and to whom; and at its control socket.
    ///
    /// # Errors
    ///
    /// When what it says is not safe, certificates cannot be used, or somebody else listens there. Without
    /// a control socket it goes on.
    pub async fn start(handle: Handle) -> Result<Self, ServeError> {
        let config = handle.config();
        let listener = bind(&config.listen, &handle).await?;
        let address = listener.as_ref().map(Listener::address);
        let reload_check = listener.as_ref().and_then(Listener::bound_socket).map(Arc::new);
        if let Some(check) = &reload_check {
            handle.add_reload_check(check);
        }
        let (stop, stopped) = watch::channel(false);
        let tags = Arc::<Tags>::default();
        let board = Board::new(handle.clone(), Arc::clone(&tags), stopped.clone());
        let traffic = Traffic::new(room_for(config.listen.connections));
        metrics::start();
        let router = router(Arc::new(Shared {
            handle,
            board: Arc::clone(&board),
            traffic: traffic.clone(),
            room: Room::new(),
            tags,
            stop: stopped.clone(),
        }));
        let (mut serving, mut background) = (Vec::new(), vec![tokio::spawn(board.run())]);
        if let Some(listener) = listener {
            background.extend(listener.tls().map(|tls| tokio::spawn(Arc::clone(tls).follow())));
            serving.push(tokio::spawn(listener.serve(router.clone(), traffic, stopped.clone())));
        }
        if let Some(path) = control_socket(&config)
            && let Some(listener) = control(&path).await
        {
            let traffic = Traffic::new(CONTROLS);
            serving.push(tokio::spawn(listener.serve(router, traffic, stopped)));
        }
        Ok(Self { address, stop, serving, background, _reload_check: reload_check })
    }

    /// Where it listens, besides the control socket.
    #[must_use]
    pub fn address(&self) -> Option<&ListenAddress> {
        self.address.as_ref()
    }

    /// Ends it: what is being answered has a moment to come to its end.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for serving in &mut self.serving {
            let _ = serving.await;
        }
    }
}

/// Listens where the configuration says, if it does.
async fn bind(listen: &ListenTable, handle: &Handle) -> Result<Option<Listener>, ServeError> {
    let Some(address) = listen.address.clone() else { return Ok(None) };
    if let Some(problem) = listen.problem() {
        return Err(ServeError::Settings(problem));
    }
    let tls = match listen.tls.clone() {
        None => None,
        Some(settings) => {
            let config = handle.config_changes();
            let made = spawn_blocking(move || Tls::new(settings, config)).await;
            let made = made.map_err(|error| ServeError::Settings(error.to_string()))?;
            Some(Arc::new(made.map_err(ServeError::Settings)?))
        }
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = Listener::bind(&address, tls).await;
    let listener = listener.map_err(|error| ServeError::Listen { address, error })?;
    match &listener.address() {
        ListenAddress::Tcp(address) => info!("serving at {scheme}://{address}"),
        address @ ListenAddress::Unix(_) => info!("serving at {address}"),
    }
    Ok(Some(listener))
}

/// How many connections are taken: half of the files that may be open are for everything else.
fn room_for(connections: u32) -> u32 {
    use rustix::process::{Resource, getrlimit};
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = u32::try_from(files / 2).unwrap_or(u32::MAX);
    if connections > room && connections != ListenTable::default().connections {
        warn!(
            "{room} connections are taken at most, not {connections} (`connections`), as no more than {files} \
             files may be open (`ulimit -n`)"
        );
    }
    connections.min(room)
}

/// Listens at the control socket. Without one, the host does all else.
async fn control(path: &Path) -> Option<Listener> {
    match Listener::control(path).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            let path = path.display();
            warn!(
                "no control socket at `{path}`, so no `host status`, `host history` and the like: {error}"
            );
            None
        }
    }
}

/// Whoever lets go of it ends it.
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
        .fallback(nothing_there)
        .method_not_allowed_fallback(not_like_that)
        .layer(from_fn_with_state(Arc::clone(&shared), admit))
        .with_state(shared)
}

async fn nothing_there(uri: Uri) -> Problem {
    Problem::unknown(format!(
        "there is nothing at `{}`; `/openapi.json` says what there is",
        uri.path()
    ))
}

async fn not_like_that() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "there is something here, but not by this method")
}

/// Lets in who may ask, and nobody's page.
async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    take(body).await;
    let mut request = Request::from_parts(parts, Body::empty());
    let mut response = match admitted(&shared, &request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let span = span!("request", otel.kind = "server", %method, path);
            shared.room.keep(next.run(request).instrument(span).await)
        }
        Err(problem) => problem.into_response(),
    };
    shared.traffic.answered(response.status());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Nothing is asked with a body here, and some send one. What is left of it would end the connection, just when
/// its next request is on the way.
async fn take(body: Body) {
    if !body.is_end_stream() {
        let _ = timeout(TAKE, Limited::new(body, BODY_MAX).collect()).await;
    }
}

fn admitted(shared: &Shared, request: &Request) -> Result<Option<Caller>, Problem> {
    let peer = request.extensions().get::<Peer>().cloned().ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the connection is not known")
    })?;
    let (config, headers) = (shared.handle.config(), request.headers());
    let path = request.uri().path();
    let is_of_page = ui::is_of_page(path);
    if !is_of_page {
        not_from_other_pages(headers, request.uri())?;
    }
    not_by_other_names(headers, request.uri(), &peer, &config)?;
    let caller = credential(headers).and_then(|shown| Caller::of(&config, peer, shown));
    if is_of_page || OPEN.contains(&path) {
        return Ok(caller.ok());
    }
    let caller = caller?;
    if shared.handle.is_stopping() {
        let detail = "the host is ending; ask again when it is there again";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    Ok(Some(caller))
}

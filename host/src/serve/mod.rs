//! What runs, seen and told things over HTTP: how sources are, their values, what changes.
//!
//! A [`Server`] serves a running configuration as its table `[listen]` says.

mod access;
mod api;
mod diff;
mod events;
mod health;
mod listener;
mod metrics;
mod openapi;
mod page;
mod problem;
mod tls;
mod traffic;

use crate::app::{Handle, ListenAddress};
use access::{Caller, Peer, credential, not_by_other_names, not_from_other_pages};
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use events::Board;
use http::{HeaderValue, StatusCode, Uri, header};
use listener::Listener;
use problem::Problem;
use std::{io, sync::Arc};
use tls::Tls;
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};
use tracing::info;
use traffic::Traffic;

/// Serves until it is stopped.
#[derive(Debug)]
pub struct Server {
    address: ListenAddress,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
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
    stop: watch::Receiver<bool>,
}

/// What is answered without knowing who asks, besides the page.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

impl Server {
    /// Serves a running configuration, if it says where; as it says, and to whom.
    ///
    /// # Errors
    ///
    /// When that is not safe, certificates cannot be used, or somebody else listens there.
    pub async fn start(handle: Handle) -> Result<Option<Self>, ServeError> {
        let listen = handle.config().listen.clone();
        let Some(address) = listen.address.clone() else { return Ok(None) };
        if let Some(problem) = listen.problem() {
            return Err(ServeError::Settings(problem));
        }
        let tls = match listen.tls.clone() {
            None => None,
            Some(settings) => {
                let made = spawn_blocking(move || Tls::new(settings)).await;
                let made = made.map_err(|error| ServeError::Settings(error.to_string()))?;
                Some(Arc::new(made.map_err(ServeError::Settings)?))
            }
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let cannot = |error| ServeError::Listen { address: address.clone(), error };
        let listener = Listener::bind(&address, tls).await.map_err(cannot)?;
        let address = listener.address().map_err(cannot)?;
        match &address {
            ListenAddress::Tcp(address) => info!("serving at {scheme}://{address}"),
            ListenAddress::Unix(_) => info!("serving at {address}"),
        }
        let (stop, stopped) = watch::channel(false);
        let board = Board::new(handle.clone(), stopped.clone());
        let traffic = Traffic::new(listen.connections);
        let (its, stop_too) = (traffic.clone(), stopped.clone());
        metrics::start();
        let shared = Shared { handle, board: Arc::clone(&board), traffic: its, stop: stop_too };
        let serving = listener.serve(router(Arc::new(shared)), traffic, stopped);
        let tasks = [tokio::spawn(board.run()), tokio::spawn(serving)];
        Ok(Some(Self { address, stop, tasks }))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Ends it: what is being answered has a moment to come to its end.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let [_, serving] = &mut self.tasks;
        let _ = serving.await;
    }
}

/// Whoever lets go of it ends it.
impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn router(shared: Arc<Shared>) -> Router {
    api::routes()
        .merge(diff::routes())
        .merge(health::routes())
        .merge(metrics::routes())
        .merge(page::routes())
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
async fn admit(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let mut response = match admitted(&shared, &request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    shared.traffic.answered(response.status());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn admitted(shared: &Shared, request: &Request) -> Result<Option<Caller>, Problem> {
    let peer = request.extensions().get().copied();
    let peer = peer.unwrap_or(Peer::Network { has_certificate: false });
    let (config, headers) = (shared.handle.config(), request.headers());
    let path = request.uri().path();
    let is_of_page = page::is_of_page(path);
    if !is_of_page {
        not_from_other_pages(headers, request.uri())?;
    }
    not_by_other_names(headers, request.uri(), peer, &config)?;
    let caller = credential(headers).and_then(|shown| Caller::of(config, peer, shown));
    if is_of_page || OPEN.contains(&path) {
        return Ok(caller.ok());
    }
    caller.map(Some)
}

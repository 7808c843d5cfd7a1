//! HTTP API of a running host: status, values, events, health, metrics, and the web page.
//!
//! A [`Server`] serves a running configuration on the address in its `[listen]` table, and on the control socket.
//! The crate accesses the running sources and sinks only through [`Handle`](reloader_app::Handle). A program without an
//! HTTP API does not need the crate.
//!
//! ```no_run
//! # async fn f(app: reloader_app::App) -> Result<(), Box<dyn std::error::Error>> {
//! let server = reloader_server::Server::start(app.handle()).await?;
//! println!("{:?}", server.address());
//! # Ok(())
//! # }
//! ```

mod auth;
mod blocking_operation_pool;
mod coalesced_response_builds;
mod connection;
mod connection_limits_from_open_files;
mod connection_places;
mod endpoints;
mod etag;
mod event_log;
mod event_log_entries;
mod event_log_updater;
mod http_metrics;
mod insecure_reload_veto;
mod listener;
pub mod metrics;
mod middleware;
mod openapi_responses;
mod private_socket;
mod problem;
mod render_pool;
mod response_budget;
mod router;
mod server;
mod shared_state;
mod tls;
mod ui;

pub use server::{ServeError, Server};

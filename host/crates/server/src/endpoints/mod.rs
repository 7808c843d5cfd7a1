//! Endpoints of the HTTP API, except metrics and the web page.
//!
//! The doc comments and descriptions of the endpoints are the text of `/openapi.json`.

mod commands;
mod diff;
mod events;
mod health;
mod history;
mod openapi;
mod sources;
mod value;

use crate::shared_state::SharedState;
use axum::Router;
use std::sync::Arc;

/// Returns the routes of all endpoints.
pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new()
        .merge(sources::routes())
        .merge(value::routes())
        .merge(history::routes())
        .merge(diff::routes())
        .merge(commands::routes())
        .merge(events::routes())
        .merge(health::routes())
        .merge(openapi::routes())
}

//! Health checks: liveness (`/healthz`) and readiness (`/readyz`).

use crate::{
    auth::{Caller, VisibleSources},
    coalesced_response_builds::{Built, Document, ResponseKey},
    problem::Problem,
    shared_state::SharedState,
};
use axum::{
    Extension, Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// Liveness of the host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `ok`.
    status: &'static str,
}

/// Readiness of the host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `true` if all required sources have a value, all required sinks have delivered it, and the host is not
    /// stopping.
    ready: bool,
    /// Required sources and sinks that are not ready, and `host (stopping)` while the host is stopping. Absent if the
    /// caller may not access all sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<String>>,
}

/// Liveness check.
///
/// Requires no token.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses(
    (status = 200, description = "The host is alive", body = Health),
))]
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Readiness check.
///
/// Requires no token. The list `missing` requires a token that may access all sources.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "All required sources and sinks are ready", body = Readiness),
    (status = 503, description = "A required source or sink is not ready, or the host is stopping", body = Readiness),
))]
pub(crate) async fn readyz(
    State(shared): State<Arc<SharedState>>,
    caller: Option<Extension<Caller>>,
) -> Result<Response, Problem> {
    let lists_missing = caller.is_some_and(|Extension(caller)| caller.can_access_all());
    let ready = *shared.handle.readiness().borrow() && !shared.handle.is_stopping();
    if ready || !lists_missing {
        let missing = lists_missing.then(Vec::new);
        return Ok((status_of(ready), Json(Readiness { ready, missing })).into_response());
    }
    let key = ResponseKey { document: Document::Readiness, visible: VisibleSources::All };
    let handle = shared.handle.clone();
    let build = move || {
        let mut missing = handle.missing();
        if handle.is_stopping() {
            missing.push("host (stopping)".into());
        }
        let ready = missing.is_empty();
        let readiness = Readiness { ready, missing: Some(missing) };
        Ok(Built { status: status_of(ready), ..Built::json(&readiness)? })
    };
    shared.responses.get(key, build).await
}

fn status_of(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

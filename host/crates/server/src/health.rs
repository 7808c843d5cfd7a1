//! Whether the host is alive, and whether what is needed is there.

use crate::{Shared, auth::Caller};
use axum::{Extension, Json, Router, extract::State, routing::get};
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// Whether the host is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`
    status: &'static str,
}

/// Whether all that is required is where it should be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether it is.
    ready: bool,
    /// What is missing; for those who may know of all sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<String>>,
}

/// Whether the host is alive.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses(
    (status = 200, description = "It is", body = Health),
))]
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether all that is required is where it should be.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "It is", body = Readiness),
    (status = 503, description = "Something is missing", body = Readiness),
))]
pub(crate) async fn readyz(
    State(shared): State<Arc<Shared>>,
    caller: Option<Extension<Caller>>,
) -> (StatusCode, Json<Readiness>) {
    let mut missing = shared.handle.missing();
    if shared.handle.is_stopping() {
        missing.push("the host, which is ending".into());
    }
    let ready = missing.is_empty();
    let knows_all = caller.is_some_and(|Extension(caller)| caller.sees_all());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, missing: knows_all.then_some(missing) }))
}

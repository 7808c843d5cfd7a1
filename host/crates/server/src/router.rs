//! Router: paths, middleware, and the answers to unknown paths and methods.

use crate::{
    endpoints, metrics, middleware::check_and_count, problem::Problem, shared_state::SharedState,
    ui,
};
use axum::{Router, middleware::from_fn_with_state};
use http::{StatusCode, Uri};
use std::sync::Arc;

/// Returns the router of all paths.
pub(crate) fn router(shared: Arc<SharedState>) -> Router {
    endpoints::routes()
        .merge(metrics::routes())
        .merge(ui::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&shared), check_and_count))
        .with_state(shared)
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found(format!(
        "unknown path `{}`; hint: `/openapi.json` describes all paths",
        uri.path()
    ))
}

async fn method_not_allowed() -> Problem {
    let detail =
        "this path does not support the method; hint: `/openapi.json` describes the methods";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

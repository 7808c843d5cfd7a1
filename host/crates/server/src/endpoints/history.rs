//! History endpoints: stored revisions, and the last rejected value.

use crate::{
    auth::Caller, openapi_responses::HistoryErrors, problem::Problem, shared_state::SharedState,
};
use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use reloader_api_types::{History, RejectedValue};
use std::sync::Arc;

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new()
        .route("/v1/sources/{source}/history", get(history))
        .route("/v1/sources/{source}/rejected", get(rejected))
}

/// History of a source: its stored revisions, newest first.
///
/// The oldest revisions beyond the limits `history` and `history-size` of `[state]` are deleted. A removal has no
/// content, and the content of a source with `store = false` is not stored.
#[utoipa::path(get, path = "/v1/sources/{source}/history", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "Stored revisions of the source; without sizes and digests if its values are not readable", body = History),
        HistoryErrors,
    ))]
pub(crate) async fn history(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    caller.check_access(&name)?;
    let handle = shared.handle.clone();
    let build = async move {
        let mut revisions = handle.history(&name).await?;
        if caller.check_readable(&handle, &name).is_err() {
            // A short secret can be guessed from its digest, and its length helps to guess it.
            revisions.iter_mut().for_each(|entry| (entry.sha256, entry.size) = (None, None));
        }
        Ok(Json(History { revisions }).into_response())
    };
    shared.budget.build(&shared.render_pool, build).await
}

/// Last value that validation rejected; `null` if there is none.
#[utoipa::path(get, path = "/v1/sources/{source}/rejected", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "Rejected value of the source and the reason; without size, digest and content if its values \
            are not readable", body = Option<RejectedValue>),
        HistoryErrors,
    ))]
pub(crate) async fn rejected(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    caller.check_access(&name)?;
    let handle = shared.handle.clone();
    let build = async move {
        let mut rejected = handle.rejected_value(&name).await?;
        if caller.check_readable(&handle, &name).is_err()
            && let Some(rejected) = &mut rejected
        {
            (rejected.content, rejected.sha256, rejected.size) = (None, None, None);
        }
        Ok(Json(rejected).into_response())
    };
    shared.budget.build(&shared.render_pool, build).await
}

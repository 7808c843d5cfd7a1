//! Status endpoints: list of all sources and groups, and detailed status of one source.

use crate::{
    auth::Caller,
    openapi_responses::{StatusErrors, Unauthorized},
    problem::Problem,
    shared_state::SharedState,
};
use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    routing::get,
};
use reloader_api_types::{SourceDetail, Sources};
use std::sync::Arc;

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new().route("/v1/sources", get(sources)).route("/v1/sources/{source}", get(source))
}

/// Status of all sources and groups.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", responses(
    (status = 200, description = "Sources and groups that the token may access", body = Sources),
    Unauthorized,
))]
pub(crate) async fn sources(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
) -> Json<Sources> {
    let sources = shared.handle.list().into_iter();
    let groups = shared.handle.groups().into_iter();
    Json(Sources {
        config_error: shared.handle.config_error().filter(|_| caller.can_access_all()),
        sources: sources.filter(|source| caller.can_access(&source.status.name)).collect(),
        groups: groups
            .filter(|group| group.sources.iter().all(|source| caller.can_access(source)))
            .collect(),
    })
}

/// Detailed status of a source.
#[utoipa::path(get, path = "/v1/sources/{source}", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "Detailed status of the source", body = SourceDetail),
        StatusErrors,
    ))]
pub(crate) async fn source(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<SourceDetail>, Problem> {
    caller.check_access(&name)?;
    shared.handle.detail(&name).map(Json).ok_or_else(|| Problem::unknown_source(&name))
}

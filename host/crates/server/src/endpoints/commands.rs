//! Commands for a source: reload, rollback, resume.

use crate::{
    auth::Caller, openapi_responses::CommandErrors, problem::Problem, shared_state::SharedState,
};
use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State},
    routing::post,
};
use reloader_api_types::CommandResult;
use reloader_app::OperationError;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new()
        .route("/v1/sources/{source}/reload", post(reload))
        .route("/v1/sources/{source}/rollback", post(rollback))
        .route("/v1/sources/{source}/resume", post(resume))
}

/// Reloads a source: reads it immediately instead of at the next poll.
///
/// The response does not wait for the result of the read.
#[utoipa::path(post, path = "/v1/sources/{source}/reload", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "The reload has started", body = CommandResult),
        CommandErrors,
        (status = 409, description = "The source has ended", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn reload(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<CommandResult>, Problem> {
    caller.check_admin(&name)?;
    command_result(shared.handle.reload(&name))
}

/// Query parameters of a rollback.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RollbackQuery {
    /// Revision whose value is published again. Default: the previous value, which is the newest older revision with
    /// another value than the current revision. If the source is pinned, the pinned revision counts as the current
    /// one, so that repeated rollbacks go further back.
    to: Option<u64>,
}

/// Rolls a source back to an earlier value and pins it.
///
/// A pinned source publishes no new values until it is resumed.
#[utoipa::path(post, path = "/v1/sources/{source}/rollback", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app"), RollbackQuery),
    responses(
        (status = 200, description = "The source is pinned. The value is published as a new revision, unless it is the current value", body = CommandResult),
        CommandErrors,
        (status = 400, description = "Invalid source name or query parameter", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown source, or no stored content for the revision", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No earlier value is stored, the source has ended, or the host stores no history, since `[state]` is disabled", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn rollback(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<RollbackQuery>,
) -> Result<Json<CommandResult>, Problem> {
    caller.check_admin(&name)?;
    command_result(shared.handle.rollback(&name, query.to.map(Into::into)).await)
}

/// Unpins a source after a rollback.
///
/// The source publishes new values again.
#[utoipa::path(post, path = "/v1/sources/{source}/resume", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "The source is no longer pinned", body = CommandResult),
        CommandErrors,
    ))]
pub(crate) async fn resume(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<CommandResult>, Problem> {
    caller.check_admin(&name)?;
    command_result(shared.handle.resume(&name).await)
}

/// Converts the result of a command to the HTTP response.
fn command_result(result: Result<String, OperationError>) -> Result<Json<CommandResult>, Problem> {
    Ok(Json(CommandResult { message: result? }))
}

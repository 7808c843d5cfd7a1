//! Endpoints of sources: status, values, history, events and commands.
//!
//! The doc comments and descriptions of the endpoints are the text of `/openapi.json`.

use crate::{
    Shared,
    auth::Caller,
    etag::{self, matches, may_match},
    problem::Problem,
    response_budget::SharedBody,
};
use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use reloader_api_types::{Done, Event, History, RefusedValue, SourceDetail, Sources};
use reloader_app::CommandError;
use reloader_engine::types::{Revision, Snapshot};
use reloader_source::store::Subscription;
use serde::Deserialize;
use std::{future::pending, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/sources", get(sources))
        .route("/v1/sources/{source}", get(source))
        .route("/v1/sources/{source}/value", get(value))
        .route("/v1/sources/{source}/history", get(history))
        .route("/v1/sources/{source}/events", get(source_events))
        .route("/v1/sources/{source}/refused", get(refused))
        .route("/v1/sources/{source}/reload", post(reload))
        .route("/v1/sources/{source}/rollback", post(rollback))
        .route("/v1/sources/{source}/resume", post(resume))
        .route("/v1/events", get(events))
}

/// Upper bound of the parameter `wait` of a long poll.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Status of all sources and groups.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", responses(
    (status = 200, description = "Sources and groups that the token may access", body = Sources),
    (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn sources(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
) -> Json<Sources> {
    let sources = shared.handle.list().into_iter();
    let groups = shared.handle.groups().into_iter();
    Json(Sources {
        config_trouble: shared.handle.config_trouble().filter(|_| caller.sees_all()),
        sources: sources.filter(|source| caller.sees(&source.status.name)).collect(),
        groups: groups
            .filter(|group| group.sources.iter().all(|source| caller.sees(source)))
            .collect(),
    })
}

/// Detailed status of a source.
#[utoipa::path(get, path = "/v1/sources/{source}", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "Detailed status of the source", body = SourceDetail),
        (status = 400, description = "Invalid source name", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token may not access the source", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown source", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn source(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<SourceDetail>, Problem> {
    caller.may_see(&name)?;
    shared.handle.detail(&name).map(Json).ok_or_else(|| no_source(&name))
}

/// Query parameters of a value.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ValueQuery {
    /// Maximum duration of a long poll, such as `500ms`, `30s` or `2m`; at most `5m`. With `If-None-Match`, the
    /// response is delayed until the value no longer matches; without, until the source has a value. Default:
    /// no wait.
    #[param(example = "30s", pattern = "^([0-9]{1,5}ms|[12]?[0-9]{1,2}s|[0-5]m)$")]
    wait: Option<String>,
    /// Revision of the value. Default: the current revision. `wait` has no effect on an earlier revision.
    revision: Option<u64>,
}

/// Content of a value, byte for byte.
///
/// Supports conditional requests (`If-None-Match`) and long polls (`wait`).
#[utoipa::path(get, path = "/v1/sources/{source}/value", tag = "sources",
    params(
        ("source" = String, Path, description = "Name of the source", example = "app"),
        ValueQuery,
        ("If-None-Match" = Option<String>, Header, description = "`ETag` of the value that the client has"),
    ),
    responses(
        (status = 200, description = "Content of the value", content_type = "*/*", body = String, headers(
            ("ETag" = String, description = "Tag of the revision and its content, for `If-None-Match`"),
            ("Reloader-Revision" = u64, description = "Number of the revision"),
            ("Reloader-At" = String, description = "Time at which the revision was published (RFC 3339); only \
                for the current revision"),
            ("Reloader-State" = String, description = "`current` or `stale` for the current revision, `past` for \
                a revision that was requested by its number"),
        )),
        (status = 304, description = "The value matches `If-None-Match`"),
        (status = 400, description = "Invalid source name or query parameter", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token may not access the source, or its values are secret", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown source, no value yet, or unknown revision", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The revision is not stored", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn value(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<ValueQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let wait = query.wait.as_deref().map_or(Ok(Duration::ZERO), parse_wait)?;
    may_read(&shared, &caller, &name)?;
    let if_none_match = headers.get(header::IF_NONE_MATCH).and_then(|list| list.to_str().ok());
    if let Some(revision) = query.revision {
        let permit = shared.budget.build_permit().await?;
        let (revision, value) = shared.handle.value(&name, Some(revision.into())).await?;
        let tag = etag::compute(revision.get(), &value).await;
        let served = ServedValue { revision, value, tag, at: None, state: "past" };
        let mut response = served.into_response(if_none_match);
        response.extensions_mut().insert(permit);
        return Ok(response);
    }
    let mut stop = shared.stop.clone();
    let deadline = Instant::now() + wait;
    tokio::select! {
        () = wait_for_change(&shared, &name, if_none_match, deadline) => {}
        problem = revoked(&shared, &caller, &name) => return Err(problem),
        _ = stop.changed() => {}
    }
    let mut reader = shared.handle.subscribe(&name).ok_or_else(|| no_source(&name))?;
    let state = reader.state();
    let tag = shared.tags.get(&name, &state).await;
    let Some((value, tag)) = state.value.zip(tag) else {
        return Err(Problem::not_found(format!("source `{name}` has no value")));
    };
    // The credential may have been revoked during the long poll.
    may_read(&shared, &caller.reauthenticate(&shared.handle)?, &name)?;
    let (revision, at) = (state.revision, Some(state.at));
    let state = if state.stale.is_some() { "stale" } else { "current" };
    let served = ServedValue { revision, value, tag, at, state };
    let mut response = served.into_response(if_none_match);
    response.extensions_mut().insert(SharedBody);
    Ok(response)
}

/// Waits until the caller may no longer read the source, and returns the reason.
async fn revoked(shared: &Shared, caller: &Caller, name: &str) -> Problem {
    let mut config = shared.handle.config_changes();
    loop {
        config.mark_unchanged();
        let caller = caller.reauthenticate(&shared.handle);
        if let Err(problem) = caller.and_then(|caller| may_read(shared, &caller, name)) {
            return problem;
        }
        if config.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Waits until the value of a source does not match `if_none_match`, or until the deadline. If the source is
/// replaced, it waits for the value of its replacement.
async fn wait_for_change(
    shared: &Shared,
    name: &str,
    if_none_match: Option<&str>,
    deadline: Instant,
) {
    let mut roster = shared.handle.roster();
    while let Some(mut reader) = shared.handle.subscribe(name) {
        if is_wait_over(shared, name, &mut reader, if_none_match, deadline).await {
            return;
        }
        if !matches!(timeout_at(deadline, roster.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Waits on one instance of a source. Returns `true` if the value does not match or the deadline has passed, and
/// `false` if the source has stopped.
async fn is_wait_over(
    shared: &Shared,
    name: &str,
    reader: &mut Subscription,
    if_none_match: Option<&str>,
    deadline: Instant,
) -> bool {
    loop {
        let state = reader.state();
        let revision = state.revision.get();
        let is_changed = match (&state.value, if_none_match) {
            (Some(_), Some(list)) if may_match(list, revision) => {
                let tag = shared.tags.get(name, &state).await;
                tag.is_none_or(|tag| !matches(list, &tag))
            }
            (Some(_), _) => true,
            // A removal is a change for a client that has a value.
            (None, list) => list.is_some() && revision > 0,
        };
        if is_changed {
            return true;
        }
        match timeout_at(deadline, reader.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return false,
            Err(_) => return true,
        }
    }
}

/// Value of a response, with the content of its headers.
struct ServedValue {
    revision: Revision,
    value: Snapshot,
    tag: Arc<str>,
    at: Option<Timestamp>,
    state: &'static str,
}

impl ServedValue {
    /// Returns the value, or status 304 if it matches `if_none_match`.
    fn into_response(self, if_none_match: Option<&str>) -> Response {
        let Self { revision, value, tag, at, state } = self;
        let is_not_modified = if_none_match.is_some_and(|list| matches(list, &tag));
        let mut response = if is_not_modified {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Response::new(Body::from(value.content))
        };
        let headers = response.headers_mut();
        let mut set = |name, value: &str| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        if !is_not_modified {
            let media_type = value.media_type.as_deref().unwrap_or("application/octet-stream");
            set(header::CONTENT_TYPE, "application/octet-stream");
            set(header::CONTENT_TYPE, media_type);
        }
        set(header::ETAG, &tag);
        set(header::CACHE_CONTROL, "no-cache");
        set(HeaderName::from_static("reloader-revision"), &revision.to_string());
        set(HeaderName::from_static("reloader-state"), state);
        if let Some(at) = at {
            set(HeaderName::from_static("reloader-at"), &at.to_string());
        }
        // A browser must not run a value as a page with the origin of this server.
        set(header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
        response
    }
}

/// Parses the query parameter `wait`.
fn parse_wait(text: &str) -> Result<Duration, Problem> {
    let invalid =
        || Problem::bad_request("invalid `wait`: expected a duration such as `30s`, at most `5m`");
    // humantime accepts `0` without a unit. The API requires a unit.
    if !text.ends_with(|last: char| last.is_ascii_alphabetic()) {
        return Err(invalid());
    }
    let wait = humantime::parse_duration(text).map_err(|_| invalid())?;
    if wait <= MAX_WAIT { Ok(wait) } else { Err(invalid()) }
}

fn no_source(name: &str) -> Problem {
    Problem::not_found(format!("source `{name}` not found"))
}

/// Returns a problem of status 403 if the caller may not access the source, or its values are secret.
pub(crate) fn may_read(shared: &Shared, caller: &Caller, name: &str) -> Result<(), Problem> {
    caller.may_see(name)?;
    if !caller.reads_secrets() && shared.handle.is_readable(name) == Some(false) {
        let detail = format!(
            "the values of source `{name}` are secrets (`store = false`); set `readable = true` to allow reads"
        );
        return Err(Problem::forbidden(detail));
    }
    Ok(())
}

/// History of a source: its stored revisions, newest first.
#[utoipa::path(get, path = "/v1/sources/{source}/history", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "Revisions; without sizes and digests if the values of the source are secret", body = History),
        (status = 400, description = "Invalid source name", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token may not access the source", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown source", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The host stores no history, since `[state]` is disabled", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn history(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<History>, Problem> {
    caller.may_see(&name)?;
    let mut revisions = shared.handle.history(&name).await?;
    if may_read(&shared, &caller, &name).is_err() {
        // A short secret can be guessed from its digest, and its length helps to guess it.
        revisions.iter_mut().for_each(|entry| (entry.sha256, entry.size) = (None, None));
    }
    Ok(Json(History { revisions }))
}

/// Last value that validation rejected; `null` if there is none.
#[utoipa::path(get, path = "/v1/sources/{source}/refused", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "Rejected value and the reason; without size, digest and content if the values of \
            the source are secret", body = Option<RefusedValue>),
        (status = 400, description = "Invalid source name", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token may not access the source", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown source", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The host stores no history, since `[state]` is disabled", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn refused(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    caller.may_see(&name)?;
    let permit = shared.budget.build_permit().await?;
    let mut rejected = shared.handle.refused(&name).await?;
    if may_read(&shared, &caller, &name).is_err()
        && let Some(rejected) = &mut rejected
    {
        (rejected.content, rejected.sha256, rejected.size) = (None, None, None);
    }
    let mut response = Json(rejected).into_response();
    response.extensions_mut().insert(permit);
    Ok(response)
}

/// Refreshes a source: reads it immediately instead of at the next poll.
///
/// The response does not wait for the result of the read.
#[utoipa::path(post, path = "/v1/sources/{source}/reload", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "The refresh has started", body = Done),
        (status = 400, description = "Invalid source name", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token may not access the source, or does not have the scope `admin`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown source", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The source has ended", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn reload(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    caller.may_change(&name)?;
    done(shared.handle.reload(&name))
}

/// Query parameters of a rollback.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RollbackQuery {
    /// Revision whose value is published again. Default: the last revision whose value differs from the current
    /// one.
    to: Option<u64>,
}

/// Rolls a source back to an earlier value and pins it.
///
/// A pinned source publishes no new values until it is resumed.
#[utoipa::path(post, path = "/v1/sources/{source}/rollback", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app"), RollbackQuery),
    responses(
        (status = 200, description = "The value is published as a new revision, and the source is pinned", body = Done),
        (status = 400, description = "Invalid source name or query parameter", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token may not access the source, or does not have the scope `admin`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown source or revision", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No earlier value is stored, or the source has ended", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn rollback(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<RollbackQuery>, QueryRejection>,
) -> Result<Json<Done>, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    caller.may_change(&name)?;
    done(shared.handle.rollback(&name, query.to.map(Into::into)).await)
}

/// Unpins a source after a rollback.
///
/// The source publishes new values again.
#[utoipa::path(post, path = "/v1/sources/{source}/resume", tag = "sources",
    params(("source" = String, Path, description = "Name of the source", example = "app")),
    responses(
        (status = 200, description = "The source is no longer pinned", body = Done),
        (status = 400, description = "Invalid source name", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token may not access the source, or does not have the scope `admin`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown source", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn resume(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    caller.may_change(&name)?;
    done(shared.handle.resume(&name).await)
}

fn done(answer: Result<String, CommandError>) -> Result<Json<Done>, Problem> {
    Ok(Json(Done { message: answer? }))
}

/// Events of all sources that the token may access.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event that the client has received; the stream continues after it")),
    responses(
        (status = 200, description = "Endless stream of server-sent events. `begin`: the client must discard its \
            state, since the latest events of all sources follow. `source`: status of a source after a change. \
            `gone`: the source was removed from the configuration. Events are coalesced: for each source, a slow \
            client receives only the latest. A comment is sent after 15 seconds without events", body = Event,
            content_type = "text/event-stream"),
        (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    stream(&shared, caller, None, &headers)
}

/// Events of one source.
#[utoipa::path(get, path = "/v1/sources/{source}/events", tag = "events",
    params(
        ("source" = String, Path, description = "Name of the source", example = "app"),
        ("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event that the client has received; the stream continues after it"),
    ),
    responses(
        (status = 200, description = "Endless stream of server-sent events, in the format of `/v1/events`", body = Event,
            content_type = "text/event-stream"),
        (status = 400, description = "Invalid source name", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token may not access the source", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown source", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn source_events(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.may_see(&name)?;
    if shared.handle.source(&name).is_none() {
        return Err(no_source(&name));
    }
    Ok(stream(&shared, caller, Some(name), &headers))
}

fn stream(shared: &Shared, caller: Caller, only: Option<String>, headers: &HeaderMap) -> Response {
    let last_event_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let events = shared.events.subscribe(caller, only, last_event_id);
    let mut response = Response::new(Body::new(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

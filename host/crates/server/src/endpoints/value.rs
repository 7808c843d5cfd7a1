//! Value endpoint: content of a value, conditional requests and long polls.

use crate::{
    auth::Caller,
    etag::{self, matches, may_match},
    openapi_responses::ValueErrors,
    problem::Problem,
    response_budget::SharedBody,
    shared_state::SharedState,
};
use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot};
use reloader_source::latest_value::Subscription;
use serde::Deserialize;
use std::{future::pending, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new().route("/v1/sources/{source}/value", get(value))
}

/// Upper bound of the parameter `wait` of a long poll.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Query parameters of a value.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ValueQuery {
    /// Maximum duration of a long poll, such as `500ms`, `30s` or `2m`; at most `5m`. With `If-None-Match`, the
    /// response is delayed until the value no longer matches; without this header, until the source has a value.
    /// Default: no wait.
    #[param(example = "30s", pattern = "^([0-9]{1,5}ms|[12]?[0-9]{1,2}s|[0-5]m)$")]
    wait: Option<String>,
    /// Revision of the value. Default: the current revision. With `revision`, `wait` has no effect.
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
            ("Reloader-At" = String, description = "Time at which the revision was published (RFC 3339); \
                absent if the query parameter `revision` is set"),
            ("Reloader-State" = String, description = "State of the value: `current` (up to date), `stale` (the value \
                may be outdated), or `past` (a revision requested with the query parameter `revision`, even if it is the \
                current one)"),
        )),
        (status = 304, description = "The value matches `If-None-Match`"),
        ValueErrors,
    ))]
pub(crate) async fn value(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<ValueQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wait = query.wait.as_deref().map_or(Ok(Duration::ZERO), parse_wait)?;
    caller.check_readable(&shared.handle, &name)?;
    if let Some(revision) = query.revision {
        let handle = shared.handle.clone();
        let build = async move {
            let (revision, value) = handle.value(&name, Some(revision.into())).await?;
            let tag = etag::compute(revision.get(), &value).await;
            let served = ServedValue { revision, value, tag, at: None, state: "past" };
            Ok(served.into_response(if_none_match(&headers)))
        };
        return shared.budget.build(&shared.render_pool, build).await;
    }
    let if_none_match = if_none_match(&headers);
    let mut stop = shared.stop.clone();
    let deadline = Instant::now() + wait;
    tokio::select! {
        () = wait_for_change(&shared, &name, if_none_match, deadline) => {}
        problem = revoked(&shared, &caller, &name) => return Err(problem),
        _ = stop.changed() => {}
    }
    let mut reader =
        shared.handle.subscribe(&name).ok_or_else(|| Problem::unknown_source(&name))?;
    let state = reader.state();
    let tag = shared.tags.get(&name, &state).await;
    let Some((value, tag)) = state.value.zip(tag) else {
        return Err(Problem::not_found(format!("source `{name}` has no value")));
    };
    // The credential may have been revoked during the long poll.
    caller.reauthenticate(&shared.handle)?.check_readable(&shared.handle, &name)?;
    let (revision, at) = (state.revision, Some(state.at));
    let state = if state.stale.is_some() { "stale" } else { "current" };
    let served = ServedValue { revision, value, tag, at, state };
    let mut response = served.into_response(if_none_match);
    response.extensions_mut().insert(SharedBody);
    Ok(response)
}

/// Returns the list of tags in `If-None-Match`.
fn if_none_match(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::IF_NONE_MATCH).and_then(|list| list.to_str().ok())
}

/// Waits until the caller may no longer read the source, and returns the reason.
async fn revoked(shared: &SharedState, caller: &Caller, name: &str) -> Problem {
    let mut config = shared.handle.config_changes();
    loop {
        config.mark_unchanged();
        let caller = caller.reauthenticate(&shared.handle);
        if let Err(problem) = caller.and_then(|caller| caller.check_readable(&shared.handle, name))
        {
            return problem;
        }
        if config.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Waits until the value of a source does not match `if_none_match`, or until the deadline. If a configuration
/// reload replaces the source, continues with the new source.
async fn wait_for_change(
    shared: &SharedState,
    name: &str,
    if_none_match: Option<&str>,
    deadline: Instant,
) {
    let mut source_set = shared.handle.source_set();
    while let Some(mut reader) = shared.handle.subscribe(name) {
        if is_wait_over(shared, name, &mut reader, if_none_match, deadline).await {
            return;
        }
        if !matches!(timeout_at(deadline, source_set.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Waits on one instance of a source. Returns `true` if the value does not match or the deadline has passed, and
/// `false` if the source has stopped.
async fn is_wait_over(
    shared: &SharedState,
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

//! What can be asked and told over HTTP.

use crate::{
    Shared,
    auth::Caller,
    etag::{self, matches, may_match},
    problem::Problem,
    response_budget::Common,
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
use reloader_app::AnswerError;
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

/// Nobody is waited with for longer.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// How all sources are.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", responses(
    (status = 200, description = "How all sources are, as far as the token is good for them", body = Sources),
    (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
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

/// A source, in all detail.
#[utoipa::path(get, path = "/v1/sources/{source}", tag = "sources",
    params(("source" = String, Path, description = "Its name", example = "app")),
    responses(
        (status = 200, description = "How it is", body = SourceDetail),
        (status = 400, description = "A name that is none", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token that is not good for it", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn source(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<SourceDetail>, Problem> {
    caller.may_see(&name)?;
    shared.handle.detail(&name).map(Json).ok_or_else(|| no_source(&name))
}

/// Which value, and how long to wait for it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// With `If-None-Match`, waits so long for another value than that one; without, for the first one.
    /// At most `5m`.
    #[param(example = "30s", pattern = "^([0-9]{1,5}ms|[12]?[0-9]{1,2}s|[0-5]m)$")]
    wait: Option<String>,
    /// An earlier revision of it.
    revision: Option<u64>,
}

/// The bytes of a value.
#[utoipa::path(get, path = "/v1/sources/{source}/value", tag = "sources",
    params(
        ("source" = String, Path, description = "Its name", example = "app"),
        Which,
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the value that is known"),
    ),
    responses(
        (status = 200, description = "The value, exactly", content_type = "*/*", body = String, headers(
            ("ETag" = String, description = "Stands for this value"),
            ("Reloader-Revision" = u64, description = "Its revision"),
            ("Reloader-At" = String, description = "When it was published"),
            ("Reloader-State" = String, description = "`current`, or `stale`"),
        )),
        (status = 304, description = "It is the one that is known"),
        (status = 400, description = "A parameter that is none", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token that is not good for it, or a value that is not to be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source, or it has no such value", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Nothing is remembered", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn value(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<Which>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(which) = query.map_err(|error| Problem::bad(error.body_text()))?;
    let wait = which.wait.as_deref().map_or(Ok(Duration::ZERO), waiting)?;
    may_read(&shared, &caller, &name)?;
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    if let Some(revision) = which.revision {
        let making = shared.room.making().await?;
        let (revision, value) = shared.handle.value(&name, Some(revision.into())).await?;
        let tag = etag::made(revision.get(), &value).await;
        let mut answer = Shown { revision, value, tag, at: None, state: "past" }.answer(known);
        answer.extensions_mut().insert(making);
        return Ok(answer);
    }
    let mut stop = shared.stop.clone();
    let until = Instant::now() + wait;
    tokio::select! {
        () = news(&shared, &name, known, until) => {}
        problem = revoked(&shared, &caller, &name) => return Err(problem),
        _ = stop.changed() => {}
    }
    let mut reader = shared.handle.subscribe(&name).ok_or_else(|| no_source(&name))?;
    let state = reader.state();
    let tag = shared.tags.of(&name, &state).await;
    let Some((value, tag)) = state.value.zip(tag) else {
        return Err(Problem::unknown(format!("source `{name}` has no value")));
    };
    // Who has waited for long may not be asked in any more.
    may_read(&shared, &caller.again(&shared.handle)?, &name)?;
    let (revision, at) = (state.revision, Some(state.at));
    let state = if state.stale.is_some() { "stale" } else { "current" };
    let mut answer = Shown { revision, value, tag, at, state }.answer(known);
    answer.extensions_mut().insert(Common);
    Ok(answer)
}

/// Waits until the caller may not read the source any more, and returns why.
async fn revoked(shared: &Shared, caller: &Caller, name: &str) -> Problem {
    let mut config = shared.handle.config_changes();
    loop {
        config.mark_unchanged();
        let now = caller.again(&shared.handle).and_then(|now| may_read(shared, &now, name));
        if let Err(problem) = now {
            return problem;
        }
        if config.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Waits for another value than the known one, or until then. Where a source has ended, another one may
/// take its place.
async fn news(shared: &Shared, name: &str, known: Option<&str>, until: Instant) {
    let mut roster = shared.handle.roster();
    while let Some(mut reader) = shared.handle.subscribe(name) {
        if is_news(shared, name, &mut reader, known, until).await {
            return;
        }
        if !matches!(timeout_at(until, roster.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Waits for it as long as the source is there; whether it has come, or the time is over.
async fn is_news(
    shared: &Shared,
    name: &str,
    reader: &mut Subscription,
    known: Option<&str>,
    until: Instant,
) -> bool {
    loop {
        let state = reader.state();
        let revision = state.revision.get();
        let is_news = match (&state.value, known) {
            (Some(_), Some(known)) if may_match(known, revision) => {
                let tag = shared.tags.of(name, &state).await;
                tag.is_none_or(|tag| !matches(known, &tag))
            }
            (Some(_), _) => true,
            // That there is none any more is news for who knows one.
            (None, known) => known.is_some() && revision > 0,
        };
        if is_news {
            return true;
        }
        match timeout_at(until, reader.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return false,
            Err(_) => return true,
        }
    }
}

/// A value that is sent.
struct Shown {
    revision: Revision,
    value: Snapshot,
    tag: Arc<str>,
    at: Option<Timestamp>,
    state: &'static str,
}

impl Shown {
    /// As an answer to who knows this already, perhaps.
    fn answer(self, known: Option<&str>) -> Response {
        let Self { revision, value, tag, at, state } = self;
        let is_known = known.is_some_and(|known| matches(known, &tag));
        let mut response = if is_known {
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
        if !is_known {
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
        // Whatever a source holds is no page of this server's.
        set(header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
        response
    }
}

fn waiting(text: &str) -> Result<Duration, Problem> {
    let wrong = || Problem::bad("`wait`: expected a duration like `30s`, at most `5m`");
    // Nought has no unit elsewhere.
    if !text.ends_with(|last: char| last.is_ascii_alphabetic()) {
        return Err(wrong());
    }
    let wait = humantime::parse_duration(text).map_err(|_| wrong())?;
    if wait <= WAIT_MAX { Ok(wait) } else { Err(wrong()) }
}

fn no_source(name: &str) -> Problem {
    Problem::unknown(format!("there is no source `{name}`"))
}

/// Refuses a value that is not to leave the host.
pub(crate) fn may_read(shared: &Shared, caller: &Caller, name: &str) -> Result<(), Problem> {
    caller.may_see(name)?;
    if !caller.reads_all() && shared.handle.is_readable(name) == Some(false) {
        let detail = format!(
            "the values of source `{name}` are secrets (`store = false`); `readable = true` lets them be read"
        );
        return Err(Problem::forbidden(detail));
    }
    Ok(())
}

/// The values that a source had.
#[utoipa::path(get, path = "/v1/sources/{source}/history", tag = "sources",
    params(("source" = String, Path, description = "Its name", example = "app")),
    responses(
        (status = 200, description = "What is remembered of it", body = History),
        (status = 400, description = "A name that is none", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token that is not good for it", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Nothing is remembered", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn history(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<History>, Problem> {
    caller.may_see(&name)?;
    let mut revisions = shared.handle.history(&name).await?;
    if may_read(&shared, &caller, &name).is_err() {
        // A digest is as good as a short secret, and how long it is says much of it.
        revisions.iter_mut().for_each(|entry| (entry.sha256, entry.size) = (None, None));
    }
    Ok(Json(History { revisions }))
}

/// What was not let through last of a source, or `null`. The content is there if it may be read.
#[utoipa::path(get, path = "/v1/sources/{source}/refused", tag = "sources",
    params(("source" = String, Path, description = "Its name", example = "app")),
    responses(
        (status = 200, description = "What was refused, and why", body = Option<RefusedValue>),
        (status = 400, description = "A name that is none", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token that is not good for it", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Nothing is remembered", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn refused(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    caller.may_see(&name)?;
    let making = shared.room.making().await?;
    let mut refused = shared.handle.refused(&name).await?;
    if may_read(&shared, &caller, &name).is_err()
        && let Some(refused) = &mut refused
    {
        (refused.content, refused.sha256, refused.size) = (None, None, None);
    }
    let mut answer = Json(refused).into_response();
    answer.extensions_mut().insert(making);
    Ok(answer)
}

/// Reads a source now.
#[utoipa::path(post, path = "/v1/sources/{source}/reload", tag = "sources",
    params(("source" = String, Path, description = "Its name", example = "app")),
    responses(
        (status = 200, description = "It is read", body = Done),
        (status = 400, description = "A name that is none", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token that is not good for it", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn reload(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    caller.may_change(&name)?;
    done(shared.handle.reload(&name))
}

/// Where to.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Back {
    /// The revision. Without it, the one before that had another value.
    to: Option<u64>,
}

/// Goes back to an earlier value, and stays there.
#[utoipa::path(post, path = "/v1/sources/{source}/rollback", tag = "sources",
    params(("source" = String, Path, description = "Its name", example = "app"), Back),
    responses(
        (status = 200, description = "It has that value again", body = Done),
        (status = 400, description = "A parameter that is none", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token that is not good for it", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source or revision", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There is nothing to go back to", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn rollback(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    query: Result<Query<Back>, QueryRejection>,
) -> Result<Json<Done>, Problem> {
    let Query(back) = query.map_err(|error| Problem::bad(error.body_text()))?;
    caller.may_change(&name)?;
    done(shared.handle.rollback(&name, back.to.map(Into::into)).await)
}

/// Follows a source again.
#[utoipa::path(post, path = "/v1/sources/{source}/resume", tag = "sources",
    params(("source" = String, Path, description = "Its name", example = "app")),
    responses(
        (status = 200, description = "It is followed", body = Done),
        (status = 400, description = "A name that is none", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token that is not good for it", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn resume(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    caller.may_change(&name)?;
    done(shared.handle.resume(&name).await)
}

fn done(answer: Result<String, AnswerError>) -> Result<Json<Done>, Problem> {
    Ok(Json(Done { message: answer? }))
}

/// What changes, of all sources.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was seen")),
    responses(
        (status = 200, description = "Server-sent events without end: `begin` where everything follows, then \
            `source` with how one is now, and `gone`. Of each source only the newest is sent", body = Event,
            content_type = "text/event-stream"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    stream(&shared, caller, None, &headers)
}

/// What changes, of one source.
#[utoipa::path(get, path = "/v1/sources/{source}/events", tag = "events",
    params(
        ("source" = String, Path, description = "Its name", example = "app"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was seen"),
    ),
    responses(
        (status = 200, description = "Server-sent events without end, as of all sources", body = Event,
            content_type = "text/event-stream"),
        (status = 400, description = "A name that is none", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token that is not good for it", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such source", body = Problem, content_type = "application/problem+json"),
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
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok());
    let mut response = Response::new(Body::new(shared.board.read(caller, only, last)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

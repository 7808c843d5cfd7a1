//! Event endpoints: streams of server-sent events from the event log.

use crate::{
    auth::Caller,
    openapi_responses::{StatusErrors, Unauthorized},
    problem::Problem,
    shared_state::SharedState,
};
use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use http::{HeaderMap, HeaderValue, header};
use reloader_api_types::Event;
use std::sync::Arc;

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new()
        .route("/v1/events", get(events))
        .route("/v1/sources/{source}/events", get(source_events))
}

/// Events of all sources that the token may access.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event that the client has received; the stream continues after it")),
    responses(
        (status = 200, description = "Endless stream of server-sent events. `begin` (data `{}`): the client must \
            discard its state, since the latest events of all sources follow. `source` (data: `Event`): \
            status of a source after a change. `gone` (data `{\"source\": NAME}`): the source was removed from the \
            configuration. Events are coalesced: for each source, a slow \
            client receives only the latest. A comment is sent after 15 seconds without events", body = Event,
            content_type = "text/event-stream"),
        Unauthorized,
    ))]
pub(crate) async fn events(
    State(shared): State<Arc<SharedState>>,
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
        StatusErrors,
    ))]
pub(crate) async fn source_events(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.check_access(&name)?;
    if shared.handle.source(&name).is_none() {
        return Err(Problem::unknown_source(&name));
    }
    Ok(stream(&shared, caller, Some(name), &headers))
}

fn stream(
    shared: &SharedState,
    caller: Caller,
    only: Option<String>,
    headers: &HeaderMap,
) -> Response {
    let last_event_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let events = shared.events.subscribe(caller, only, last_event_id);
    let mut response = Response::new(Body::new(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

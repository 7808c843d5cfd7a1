//! OpenAPI description of the HTTP API: `/openapi.json`.

use super::{commands, diff, events, health, history, sources, value};
use crate::{metrics, problem::Problem, response_budget::SharedBody, shared_state::SharedState};
use axum::{
    Router,
    body::{Body, Bytes},
    response::Response,
    routing::get,
};
use http::{HeaderValue, header};
use reloader_api_types::Event;
use std::sync::{Arc, LazyLock};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new().route("/openapi.json", get(openapi))
}

#[derive(OpenApi)]
#[openapi(
    info(title = "reloader host", description = "Status, values, history, events, health and metrics of the \
        sources of a running host, and commands for them."),
    paths(
        sources::sources, sources::source, value::value, history::history, diff::diff, history::rejected,
        events::events, events::source_events, commands::reload, commands::rollback, commands::resume,
        health::healthz, health::readyz, metrics::metrics, openapi,
    ),
    components(schemas(Problem, Event)),
    security(("token" = []), ()),
    modifiers(&Token),
)]
struct Description;

/// Adds the security scheme of bearer tokens to the OpenAPI description.
struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// OpenAPI description of this API.
#[utoipa::path(get, path = "/openapi.json", tag = "description", security(()), responses(
    (status = 200, description = "OpenAPI document", body = Object),
))]
async fn openapi() -> Response {
    static DESCRIPTION: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&Description::openapi()).unwrap_or_default().into());
    let mut response = Response::new(Body::from(DESCRIPTION.clone()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response.extensions_mut().insert(SharedBody);
    response
}

//! Status endpoints: list of all sources and groups, and detailed status of one source.

use crate::{
    auth::Caller,
    coalesced_response_builds::{Built, Document, ResponseKey},
    openapi_responses::{ListErrors, StatusErrors},
    problem::Problem,
    shared_state::SharedState,
};
use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State},
    response::Response,
    routing::get,
};
use http::{HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reloader_api_types::{SourceDetail, Sources};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new().route("/v1/sources", get(sources)).route("/v1/sources/{source}", get(source))
}

/// Number of sources on a page if the client gives none.
const DEFAULT_LIMIT: usize = 1_000;
/// Upper bound of the number of sources on a page.
const MAX_LIMIT: usize = 10_000;

/// Query parameters of the list of sources.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Maximum number of sources on the page. Default: 1,000.
    #[param(minimum = 1, maximum = 10_000, example = 100)]
    limit: Option<usize>,
    /// Name after which the page begins: `next` of the previous page. Default: the first page.
    after: Option<String>,
}

/// Status of all sources and groups.
///
/// The list is divided into pages of sources, ordered by name. The first page also has all groups.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", params(ListQuery), responses(
    (status = 200, description = "Sources and groups that the token may access", body = Sources, headers(
        ("Link" = String, description = "Relative URL of the next page, with `rel=\"next\"` (RFC 8288); absent on the last page"),
    )),
    ListErrors,
))]
pub(crate) async fn sources(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    Query(ListQuery { limit, after }): Query<ListQuery>,
) -> Result<Response, Problem> {
    let document = Document::Sources { after: after.clone(), limit };
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let detail = format!("invalid `limit`: expected a number from 1 to {MAX_LIMIT}");
        return Err(Problem::bad_request(detail));
    }
    let key = ResponseKey { document, visible: caller.visible().clone() };
    let handle = shared.handle.clone();
    let build = move || {
        let visible = caller.visible();
        let is_visible = |name: &str| visible.contains(name);
        let (sources, next) = handle.list(after.as_deref(), limit, is_visible);
        let groups = match after {
            None => handle.groups(),
            Some(_) => Vec::new(),
        };
        let groups = groups.into_iter();
        let page = Sources {
            config_error: handle.config_error().filter(|_| visible.contains_all()),
            sources,
            groups: groups
                .filter(|group| group.sources.iter().all(|source| visible.contains(source)))
                .collect(),
            next,
        };
        let mut built = Built::json(&page)?;
        let link = page.next.as_deref().map(|next| {
            let next = utf8_percent_encode(next, NON_ALPHANUMERIC);
            format!("<?limit={limit}&after={next}>; rel=\"next\"")
        });
        let link = link.and_then(|link| HeaderValue::try_from(link).ok());
        built.headers.extend(link.map(|link| (header::LINK, link)));
        Ok(built)
    };
    shared.responses.get(key, build).await
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

//! Middleware of all requests: authentication, cross-origin checks, response budget, counters, headers.

use crate::{
    auth::{
        Caller, Peer, check_host_header, parse_credential, reject_cross_origin,
        reject_dns_rebinding,
    },
    connection::ReservedPlace,
    problem::Problem,
    shared_state::SharedState,
    ui,
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use reloader_source::spans::span;
use std::sync::Arc;
use tracing::Instrument;

/// Paths that need no credential, in addition to the files of the web page.
const PUBLIC_PATHS: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// Maximum size of an error text of axum that is converted into problem details, in bytes.
const MAX_REJECTION_BYTES: usize = 4 << 10;
/// Paths that remote clients may request on connections above the connection limit.
const HEALTH_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Authenticates the caller, rejects cross-origin requests, accounts for the memory of the response, counts the
/// request, and sets the headers that all responses have.
pub(crate) async fn check_and_count(
    State(shared): State<Arc<SharedState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match check_request(&shared, &request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let span = span!("request", otel.kind = "server", %method, path);
            let response = next.run(request).instrument(span).await;
            shared.budget.account(problem_of_rejection(response).await)
        }
        Err(problem) => problem.into_response(),
    };
    shared.http_metrics.count_request(response.status());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Converts the text with which axum rejects an invalid path or query into problem details.
async fn problem_of_rejection(response: Response) -> Response {
    let (status, headers) = (response.status(), response.headers());
    let is_error = status.is_client_error() || status.is_server_error();
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !is_error || media_type.is_some_and(|media_type| !media_type.starts_with(b"text/plain")) {
        return response;
    }
    let text = Limited::new(response.into_body(), MAX_REJECTION_BYTES).collect().await;
    let text = text.map(|text| String::from_utf8_lossy(&text.to_bytes()).into_owned());
    Problem::new(status, text.unwrap_or_default()).into_response()
}

/// Returns the authenticated caller; `None` if the path is public and the request has no valid credential.
fn check_request(shared: &SharedState, request: &Request) -> Result<Option<Caller>, Problem> {
    let peer = request.extensions().get::<Peer>().cloned().ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error: missing peer address")
    })?;
    let (config, headers) = (shared.handle.config(), request.headers());
    let path = request.uri().path();
    check_host_header(headers, request.version())?;
    check_reserved_place(request)?;
    let is_page_file = ui::is_page_file(path);
    if !is_page_file {
        reject_cross_origin(headers, request.uri())?;
    }
    reject_dns_rebinding(headers, request.uri(), &peer, &config)?;
    let caller = parse_credential(headers)
        .and_then(|credential| Caller::authenticate(&config, peer, credential));
    if is_page_file || PUBLIC_PATHS.contains(&path) {
        return Ok(caller.ok());
    }
    let caller = caller?;
    if shared.handle.is_stopping() {
        let detail = "the host is stopping; hint: retry after its restart";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    Ok(Some(caller))
}

/// Returns a problem of status 503 if the connection is above the connection limit and the request is not answered
/// there: a request that may take long, or a request of a remote client other than a health check.
fn check_reserved_place(request: &Request) -> Result<(), Problem> {
    let Some(ReservedPlace { is_local }) = request.extensions().get() else { return Ok(()) };
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let is_long = path.ends_with("/events") || query.contains("wait=");
    if HEALTH_PATHS.contains(&path) || (*is_local && !is_long) {
        return Ok(());
    }
    let detail =
        "connection limit reached; hint: retry later, or increase `connections` in `[listen]`";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
}

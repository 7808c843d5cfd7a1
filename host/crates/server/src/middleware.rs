//! Middleware of all requests: authentication, cross-origin checks, response budget, counters, headers.

use crate::{
    auth::{Caller, Peer, parse_credential, reject_cross_origin, reject_dns_rebinding},
    problem::Problem,
    shared_state::SharedState,
    ui,
};
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use reloader_source::spans::span;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tracing::Instrument;

/// Paths that need no credential, in addition to the files of the web page.
const PUBLIC_PATHS: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// Upper bound of a request body. Bodies are read and discarded.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Time limit for reading a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Authenticates the caller, rejects cross-origin requests, accounts for the memory
/// of the response, counts the request, and sets the headers that all responses have.
pub(crate) async fn check_and_count(
    State(shared): State<Arc<SharedState>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    discard_body(body).await;
    let mut request = Request::from_parts(parts, Body::empty());
    let mut response = match check_request(&shared, &request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let span = span!("request", otel.kind = "server", %method, path);
            shared.budget.account(next.run(request).instrument(span).await)
        }
        Err(problem) => problem.into_response(),
    };
    shared.http_metrics.count_request(response.status());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Reads and discards a request body. No request needs one, but some clients send one. hyper would close the
/// connection because of an unread body, and the client's next request would fail.
async fn discard_body(body: Body) {
    if !body.is_end_stream() {
        let _ = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    }
}

/// Returns the authenticated caller; `None` if the path is public and the request has no valid credential.
fn check_request(shared: &SharedState, request: &Request) -> Result<Option<Caller>, Problem> {
    let peer = request.extensions().get::<Peer>().cloned().ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error: missing peer address")
    })?;
    let (config, headers) = (shared.handle.config(), request.headers());
    let path = request.uri().path();
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

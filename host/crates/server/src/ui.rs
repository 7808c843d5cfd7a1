//! Web page of the host: static files that use the public API.

use crate::shared_state::SharedState;
use axum::{
    Router,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reloader_util::digest::Digest;
use std::sync::{Arc, LazyLock};

/// File of the web page.
struct Asset {
    path: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

macro_rules! assets {
    ($($path:literal, $file:literal, $media_type:literal;)*) => {
        &[$(Asset {
            path: $path,
            media_type: $media_type,
            content: include_bytes!(concat!("ui/", $file)),
        }),*]
    };
}

const ASSETS: &[Asset] = assets![
    "/", "index.html", "text/html; charset=utf-8";
    "/page/icon.svg", "icon.svg", "image/svg+xml";
    "/page/style.css", "style.css", "text/css; charset=utf-8";
    "/page/parts.css", "parts.css", "text/css; charset=utf-8";
    "/page/app.js", "app.js", "text/javascript; charset=utf-8";
    "/page/api.js", "api.js", "text/javascript; charset=utf-8";
    "/page/live.js", "live.js", "text/javascript; charset=utf-8";
    "/page/store.js", "store.js", "text/javascript; charset=utf-8";
    "/page/dom.js", "dom.js", "text/javascript; charset=utf-8";
    "/page/format.js", "format.js", "text/javascript; charset=utf-8";
    "/page/overview.js", "overview.js", "text/javascript; charset=utf-8";
    "/page/row.js", "row.js", "text/javascript; charset=utf-8";
    "/page/sinks.js", "sinks.js", "text/javascript; charset=utf-8";
    "/page/source.js", "source.js", "text/javascript; charset=utf-8";
    "/page/facts.js", "facts.js", "text/javascript; charset=utf-8";
    "/page/value.js", "value.js", "text/javascript; charset=utf-8";
    "/page/history.js", "history.js", "text/javascript; charset=utf-8";
    "/page/diff.js", "diff.js", "text/javascript; charset=utf-8";
    "/page/text.js", "text.js", "text/javascript; charset=utf-8";
    "/page/secrets.js", "secrets.js", "text/javascript; charset=utf-8";
    "/page/confirm.js", "confirm.js", "text/javascript; charset=utf-8";
    "/page/login.js", "login.js", "text/javascript; charset=utf-8";
];

/// Content security policy: no resources of other origins, no inline scripts or styles, no frames.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns `true` for the path of a file of the web page. The files contain no data of the host, so they need no
/// credential, and other sites may link to them.
pub(crate) fn is_page_file(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path)
}

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let tag = LazyLock::new(|| format!("\"{}\"", &Digest::of(asset.content).to_string()[..16]));
        let tag = Arc::new(tag);
        router.route(
            asset.path,
            get(move |headers: HeaderMap| async move { asset.response(&headers, &tag) }),
        )
    })
}

impl Asset {
    /// Returns the file, or status 304 if `If-None-Match` is its tag.
    fn response(&self, request_headers: &HeaderMap, tag: &str) -> Response {
        let if_none_match = request_headers.get(header::IF_NONE_MATCH);
        let if_none_match = if_none_match.and_then(|tag| tag.to_str().ok());
        let mut response = if if_none_match == Some(tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Response::new(Body::from(Bytes::from_static(self.content)))
        };
        let headers = response.headers_mut();
        let mut set = |name: HeaderName, value: &'static str| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        set(header::CONTENT_TYPE, self.media_type);
        set(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
        set(header::CACHE_CONTROL, "no-cache");
        set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

//! Import `wasi:http`: sends requests to granted origins with the host's own client.

use crate::{
    call_denials::CallDenials, denials::DENIED, resolved_settings::ResolvedSettings,
    source_context::SourceContext,
};
use http_body_util::BodyExt;
use reloader_net::{BodyError, RequestError, RequestTimeouts};
use reloader_policy::{Access, HttpOrigin};
use reloader_util::sanitize::sanitize;
use std::sync::Arc;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Sender of the HTTP requests of a guest, in place of the outgoing handler of `wasmtime-wasi-http`.
pub(crate) struct HttpHooks {
    context: Arc<SourceContext>,
    resolved: Arc<ResolvedSettings>,
    call_denials: CallDenials,
}

impl HttpHooks {
    pub(crate) fn new(
        context: Arc<SourceContext>,
        resolved: Arc<ResolvedSettings>,
        call_denials: CallDenials,
    ) -> Self {
        Self { context, resolved, call_denials }
    }

    /// Checks a request against the grants. Returns its origin, or `None` if it is denied.
    fn check_request(&self, method: &http::Method, uri: &http::Uri) -> Option<HttpOrigin> {
        // CONNECT opens a tunnel and has no path to check.
        if *method == http::Method::CONNECT {
            self.call_denials
                .add(&format!("{DENIED}HTTP request: method `CONNECT` is not supported"));
            return None;
        }
        let origin = match HttpOrigin::try_from(uri) {
            Ok(origin) => origin,
            Err(error) => {
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                let shown: String = authority.chars().take(256).collect();
                let message = format!("{DENIED}HTTP request to `{shown}`: {error}");
                self.call_denials.add(&sanitize(&message));
                return None;
            }
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let access = Access::Http(origin.clone(), path.into());
        match self.resolved.check_access(&access) {
            Ok(()) => Some(origin),
            Err(reason) => {
                self.call_denials.add(&reason);
                None
            }
        }
    }

    /// Adds the credentials that the operator configured for the origin. A credential replaces the plugin's header of
    /// the same name.
    fn add_credentials(&self, origin: &HttpOrigin, headers: &mut http::HeaderMap) {
        for credential in self.resolved.credentials.iter().filter(|c| c.origin == *origin) {
            headers.insert(credential.name.clone(), credential.value.clone());
        }
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type SendResult = Result<(http::Response<WasiBody>, Io), Error>;

/// Returns the URL with the checked origin in its canonical form. So all spellings of an origin share connections, and
/// the HTTP client cannot parse a spelling differently than the grant check did.
fn canonical_uri(uri: &http::Uri, origin: &HttpOrigin) -> http::Uri {
    let (scheme, default) = if origin.tls { ("https", ":443") } else { ("http", ":80") };
    let address = origin.address.to_string();
    let authority = address.strip_suffix(default).unwrap_or(&address);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let built =
        http::Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    built.unwrap_or_else(|_| uri.clone())
}

/// Maximum size of a chunk of a request body in the queue to the client, in bytes.
const MAX_BODY_CHUNK_BYTES: usize = 64 << 10;
/// Maximum number of chunks of a request body in the queue to the client.
const MAX_QUEUED_BODY_CHUNKS: usize = 1;

impl WasiHttpHooks for HttpHooks {
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        MAX_QUEUED_BODY_CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_BODY_CHUNK_BYTES
    }

    fn set_host_header(&mut self) -> bool {
        // Leaves the header `Host` to the HTTP client, which sets it for HTTP/1 only. HTTP/2 has `:authority` instead,
        // and servers reject requests with both.
        false
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _body_done: Io,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let Some(origin) = self.check_request(request.method(), request.uri()) else {
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        *request.uri_mut() = canonical_uri(request.uri(), &origin);
        self.add_credentials(&origin, request.headers_mut());
        let (context, call_denials) = (Arc::clone(&self.context), self.call_denials.clone());
        Box::new(async move {
            let options = options.unwrap_or_default();
            let times = RequestTimeouts {
                connect: options.connect_timeout,
                first_byte: options.first_byte_timeout,
                between_bytes: options.between_bytes_timeout,
            };
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            let response = context.egress.send(request, times).await;
            let response = response.map_err(|error| match error {
                RequestError::Denied(denied) => {
                    call_denials.add(&sanitize(&denied.to_string()));
                    Error::DestinationIpProhibited
                }
                RequestError::TimedOut => Error::HttpResponseTimeout,
                RequestError::Failed(message) => Error::InternalError(Some(message)),
            })?;
            let limit = context.limits.cite("http-body");
            let response = response.map(|body| {
                body.map_err(move |error| match error {
                    BodyError::TooLarge => Error::InternalError(Some(format!(
                        "the response body is too large: {limit}"
                    ))),
                    BodyError::Failed(message) => Error::InternalError(Some(message)),
                })
                .boxed_unsync()
            });
            Ok((response, Box::new(async { Ok(()) }) as Io))
        })
    }
}

//! The import `wasi:http`: requests to granted origins, by the host's own client.

use super::{Configured, Objections, Surroundings};
use http_body_util::BodyExt;
use reloader_net::{BodyError, RequestError, Times};
use reloader_policy::{Access, HttpOrigin};
use reloader_util::sanitize::sanitize;
use std::sync::Arc;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

pub(crate) struct Hooks {
    surroundings: Arc<Surroundings>,
    configured: Arc<Configured>,
    objections: Objections,
}

impl Hooks {
    pub(crate) fn new(
        surroundings: Arc<Surroundings>,
        configured: Arc<Configured>,
        objections: Objections,
    ) -> Self {
        Self { surroundings, configured, objections }
    }

    /// Whether it may be sent; to where, if so.
    fn may_request(&self, method: &http::Method, uri: &http::Uri) -> Option<HttpOrigin> {
        // It asks for a connection, and has no path.
        if *method == http::Method::CONNECT {
            self.objections.add("refused a request: the method `CONNECT` is not offered");
            return None;
        }
        let origin = match HttpOrigin::try_from(uri) {
            Ok(origin) => origin,
            Err(error) => {
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                let asked: String = authority.chars().take(256).collect();
                self.objections.add(&sanitize(&format!("refused a request to `{asked}`: {error}")));
                return None;
            }
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let access = Access::Http(origin.clone(), path.into());
        match self.configured.may(&access) {
            Ok(()) => Some(origin),
            Err(why) => {
                self.objections.add(&why);
                None
            }
        }
    }

    /// Adds what the operator wants to be sent there. The plugin's own header of that name is replaced.
    fn add_credentials(&self, origin: &HttpOrigin, headers: &mut http::HeaderMap) {
        for credential in self.configured.credentials.iter().filter(|c| c.origin == *origin) {
            headers.insert(credential.name.clone(), credential.value.clone());
        }
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Result<(http::Response<WasiBody>, Io), Error>;

/// The URL with the origin that was checked, in its one spelling: each other one would have connections of
/// its own, and might be understood in another way.
fn checked(uri: &http::Uri, origin: &HttpOrigin) -> http::Uri {
    let (scheme, default) = if origin.tls { ("https", ":443") } else { ("http", ":80") };
    let address = origin.address.to_string();
    let authority = address.strip_suffix(default).unwrap_or(&address);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let built =
        http::Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    built.unwrap_or_else(|_| uri.clone())
}

/// What is kept of a request's body that nobody reads, in bytes; and in how many pieces.
const BODY_KEPT: (usize, usize) = (64 << 10, 1);

impl WasiHttpHooks for Hooks {
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_KEPT.1
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_KEPT.0
    }

    fn set_host_header(&mut self) -> bool {
        // The client does, where the protocol has it: HTTP/2 says it in another way, and servers refuse
        // to be told twice.
        false
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _body_done: Io,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let Some(origin) = self.may_request(request.method(), request.uri()) else {
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        *request.uri_mut() = checked(request.uri(), &origin);
        self.add_credentials(&origin, request.headers_mut());
        let (surroundings, objections) = (Arc::clone(&self.surroundings), self.objections.clone());
        Box::new(async move {
            let options = options.unwrap_or_default();
            let times = Times {
                connect: options.connect_timeout,
                first_byte: options.first_byte_timeout,
                between_bytes: options.between_bytes_timeout,
            };
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            let response = surroundings.line.send(request, times).await;
            let response = response.map_err(|error| match error {
                RequestError::Refused(refused) => {
                    objections.add(&sanitize(&refused.to_string()));
                    Error::DestinationIpProhibited
                }
                RequestError::TimedOut => Error::HttpResponseTimeout,
                RequestError::Failed(message) => Error::InternalError(Some(message)),
            })?;
            let limit = surroundings.limits.cite("http-body");
            let response = response.map(|body| {
                body.map_err(move |error| match error {
                    BodyError::TooLarge => Error::InternalError(Some(format!(
                        "the response's body is too long: {limit}"
                    ))),
                    BodyError::Failed(message) => Error::InternalError(Some(message)),
                })
                .boxed_unsync()
            });
            Ok((response, Box::new(async { Ok(()) }) as Io))
        })
    }
}

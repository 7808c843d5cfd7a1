//! The import `wasi:http`: requests to granted origins, by the host's own client.

use super::Surroundings;
use crate::net::{BodyError, RequestError, Times};
use http_body_util::BodyExt;
use std::sync::Arc;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

pub(super) struct Hooks {
    surroundings: Arc<Surroundings>,
}

impl Hooks {
    pub(super) fn new(surroundings: Arc<Surroundings>) -> Self {
        Self { surroundings }
    }

    fn may_request(&self, uri: &http::Uri) -> bool {
        let tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = uri.host().unwrap_or_default();
        // An authority can hold more than host and port.
        let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if plain && self.surroundings.grants.allows_http(tls, host, port) {
            return true;
        }
        let source = &self.surroundings.source;
        let host: String = host.chars().take(256).collect();
        tracing::warn!(
            %source,
            "refused a request to {host:?}, port {port}: this origin stands in no setting"
        );
        false
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Result<(http::Response<WasiBody>, Io), Error>;

impl WasiHttpHooks for Hooks {
    fn set_host_header(&mut self) -> bool {
        // The client does, where the protocol has it: HTTP/2 says it in another way, and servers refuse
        // to be told twice.
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _body_done: Io,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        if !self.may_request(request.uri()) {
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        let surroundings = Arc::clone(&self.surroundings);
        Box::new(async move {
            let options = options.unwrap_or_default();
            let times = Times {
                connect: options.connect_timeout,
                first_byte: options.first_byte_timeout,
                between_bytes: options.between_bytes_timeout,
            };
            let response = surroundings.line.send(request, times).await;
            let response = response.map_err(|error| match error {
                RequestError::Refused(refused) => {
                    surroundings.refused_address(&refused);
                    Error::DestinationIpProhibited
                }
                RequestError::TimedOut => Error::HttpResponseTimeout,
                RequestError::Failed(message) => Error::InternalError(Some(message)),
            })?;
            let max = surroundings.limits.http_body;
            let response = response.map(|body| {
                body.map_err(move |error| match error {
                    BodyError::TooLarge => Error::InternalError(Some(format!(
                        "the response's body is too long (limit `http-body` is {max} bytes)"
                    ))),
                    BodyError::Failed(message) => Error::InternalError(Some(message)),
                })
                .boxed_unsync()
            });
            Ok((response, Box::new(async { Ok(()) }) as Io))
        })
    }
}

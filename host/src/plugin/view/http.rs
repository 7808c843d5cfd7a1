//! The import `wasi:http`: requests to granted origins, by the host's own client.

use super::{Configured, Objections, Surroundings};
use crate::{
    capability::{Access, HostPort, HttpOrigin},
    net::RequestError,
    text::tidy,
};
use http_body_util::{BodyExt, Limited};
use std::{sync::Arc, time::Duration};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Time for connecting, and for the response's headers, where the guest does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) struct Hooks {
    surroundings: Arc<Surroundings>,
    configured: Arc<Configured>,
    objections: Objections,
}

impl Hooks {
    pub(super) fn new(
        surroundings: Arc<Surroundings>,
        configured: Arc<Configured>,
        objections: Objections,
    ) -> Self {
        Self { surroundings, configured, objections }
    }

    /// Whether it may be sent; to where, if so.
    fn may_request(&self, uri: &http::Uri) -> Option<HttpOrigin> {
        let tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        // An authority can hold more than host and port.
        let host = uri.host().filter(|_| !authority.contains('@')).unwrap_or_default();
        let address = match HostPort::new(host, port) {
            Ok(address) => address,
            Err(error) => {
                self.objections.add(&tidy(&format!("refused a request: {error}")));
                return None;
            }
        };
        let origin = HttpOrigin { tls, address };
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

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _body_done: Io,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let Some(origin) = self.may_request(request.uri()) else {
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        self.add_credentials(&origin, request.headers_mut());
        let surroundings = Arc::clone(&self.surroundings);
        Box::new(async move {
            let options = options.unwrap_or_default();
            // One limit for both: a guest that gives each its time means all of it.
            let connect = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
            let limit = connect.max(options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT));
            let response = surroundings.http.send(request, limit).await;
            let response = response.map_err(|error| match error {
                RequestError::TimedOut(_) => Error::HttpResponseTimeout,
                RequestError::Failed(message) => Error::InternalError(Some(message)),
            })?;
            let max = surroundings.limits.http_body;
            let response = response.map(|body| {
                Limited::new(body, max)
                    .map_err(move |error| match error.downcast::<hyper::Error>() {
                        Ok(error) => Error::InternalError(Some(error.to_string())),
                        Err(_) => Error::HttpResponseBodySize(Some(max as u64)),
                    })
                    .boxed_unsync()
            });
            Ok((response, Box::new(async { Ok(()) }) as Io))
        })
    }
}

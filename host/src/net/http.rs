//! The HTTP client behind `wasi:http`: connections are kept and used again, HTTP/2 where offered.

use super::tls;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::{error::Error, sync::OnceLock, time::Duration};
use tokio::time::timeout;
use wasmtime_wasi_http::Error as WasiError;

type Body = UnsyncBoxBody<Bytes, WasiError>;

/// Sends requests. One serves all plugins; made when the first request is sent.
#[derive(Debug, Default)]
pub struct HttpClient {
    client: OnceLock<Client<HttpsConnector<HttpConnector>, Body>>,
}

/// Why a request brought no response.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not in time.
    #[error("no response within {0:?}")]
    TimedOut(Duration),
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// How many unused connections are kept for one origin.
const IDLE_PER_HOST: usize = 4;

impl HttpClient {
    /// Sends a request and waits, for `limit` at most, until the response's headers are there.
    ///
    /// # Errors
    ///
    /// [`RequestError`].
    pub async fn send(
        &self,
        request: Request<Body>,
        limit: Duration,
    ) -> Result<Response<Incoming>, RequestError> {
        let failed = |error: std::io::Error| RequestError::Failed(error.to_string());
        if request.uri().scheme() == Some(&http::uri::Scheme::HTTPS) {
            tls::config().map_err(failed)?;
        }
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let client = client().map_err(failed)?;
                self.client.get_or_init(|| client)
            }
        };
        match timeout(limit, client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(RequestError::Failed(causes(&error))),
            Err(_) => Err(RequestError::TimedOut(limit)),
        }
    }
}

fn client() -> std::io::Result<Client<HttpsConnector<HttpConnector>, Body>> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let tls = match tls::config() {
        Ok(config) => (*config).clone(),
        // Plain HTTP goes without; a request by HTTPS has been told why it cannot be sent.
        Err(_) => tls::trusting_nobody()?,
    };
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .build(connector))
}

/// An error with its causes: the outermost one alone only says that connecting failed.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

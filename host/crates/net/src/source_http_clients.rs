//! HTTP clients of a source: connection pools whose connections are made by the dialler.

use crate::{
    deadline::{Deadline, Progress},
    dial::{DialError, Dialler},
    stream::HttpConnection,
    tls_config::TlsClient,
    tls_stream::Protocols,
};
use bytes::Bytes;
use http::Uri;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioIo, TokioTimer},
};
use reloader_policy::HostPort;
use reloader_util::sync::Mutex;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower_service::Service;

/// Body of an HTTP request of a plugin.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Time that an unused connection stays in the pool.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of unused connections in the pool for one origin.
const MAX_IDLE_CONNECTIONS_PER_ORIGIN: usize = 4;
/// Minimum buffer size for a response head that `hyper` accepts, in bytes.
const MIN_HEAD_BUFFER_BYTES: usize = 8 << 10;
/// HTTP/2 flow-control window of one response, in bytes.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// HTTP/2 flow-control window of all responses on one connection, in bytes.
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Interval of HTTP/2 pings on a connection with running requests. They detect a broken connection
/// earlier than TCP does.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// Timeout for the reply to an HTTP/2 ping.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of HTTP/2 streams on one connection that the client has reset and still tracks.
const MAX_HTTP2_RESET_STREAMS: usize = 16;
/// Maximum number of HTTP/2 streams that the server has reset before the client accepted them. Exceeding
/// it closes the connection.
const MAX_HTTP2_PENDING_RESET_STREAMS: usize = 16;
/// Maximum number of HTTP/2 streams that the client has reset because of protocol errors of the server.
/// Exceeding it closes the connection.
const MAX_HTTP2_ERROR_RESET_STREAMS: usize = 64;

pub(crate) type HttpClient = Client<Connector, RequestBody>;

/// HTTP clients of a source: one without TLS, and one with the current TLS configuration.
#[derive(Debug)]
pub(crate) struct HttpClients {
    /// Maximum size of a response head, in bytes.
    max_head_bytes: usize,
    plain: Mutex<Option<Arc<HttpClient>>>,
    secure: Mutex<Option<(TlsClient, Arc<HttpClient>)>>,
}

impl HttpClients {
    pub(crate) fn new(max_head_bytes: usize) -> Self {
        Self { max_head_bytes, plain: Mutex::default(), secure: Mutex::default() }
    }

    /// Returns the client for `http` URLs. The first call creates it.
    pub(crate) fn plain(&self, dialler: &Dialler) -> Arc<HttpClient> {
        let mut plain = self.plain.lock();
        Arc::clone(plain.get_or_insert_with(|| new_client(dialler, None, self.max_head_bytes)))
    }

    /// Drops both clients with their connection pools. Called after a failed request: otherwise the pool could keep the
    /// connection of this request open, and the server could continue to send on it.
    pub(crate) fn clear(&self) {
        *self.plain.lock() = None;
        *self.secure.lock() = None;
    }

    /// Returns the client for a TLS configuration. A changed configuration creates a new client, so that
    /// connections with the old one are not reused.
    pub(crate) fn secure(&self, dialler: &Dialler, tls: TlsClient) -> Arc<HttpClient> {
        let mut secure = self.secure.lock();
        match &*secure {
            Some((current, client)) if current.is_same(&tls) => Arc::clone(client),
            _ => {
                let client = new_client(dialler, Some(tls.clone()), self.max_head_bytes);
                Arc::clone(&secure.insert((tls, client)).1)
            }
        }
    }
}

fn new_client(dialler: &Dialler, tls: Option<TlsClient>, max_head_bytes: usize) -> Arc<HttpClient> {
    let client = Client::builder(dialler.executor.clone())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS_PER_ORIGIN)
        .http1_max_buf_size(max_head_bytes.max(MIN_HEAD_BUFFER_BYTES))
        .http2_max_header_list_size(max_head_bytes.try_into().unwrap_or(u32::MAX))
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .http2_max_concurrent_reset_streams(MAX_HTTP2_RESET_STREAMS)
        .http2_max_pending_accept_reset_streams(MAX_HTTP2_PENDING_RESET_STREAMS)
        .http2_max_local_error_reset_streams(MAX_HTTP2_ERROR_RESET_STREAMS)
        .build(Connector { dialler: dialler.clone(), tls });
    Arc::new(client)
}

/// Connection parameters of one request. They reach the connector through a task-local value, because `hyper` passes
/// only the origin to the connector.
#[derive(Debug, Clone)]
pub(crate) struct ConnectContext {
    pub(crate) to: HostPort,
    pub(crate) deadline: Deadline,
    pub(crate) progress: Arc<Progress>,
}

tokio::task_local! {
    pub(crate) static CONNECT_CONTEXT: ConnectContext;
}

/// Connector that `hyper` calls for each new connection.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    dialler: Dialler,
    tls: Option<TlsClient>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<HttpConnection>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, origin: Uri) -> Self::Future {
        // `hyper` calls this function while it polls the request, so `CONNECT_CONTEXT` is set.
        let context = CONNECT_CONTEXT.try_with(ConnectContext::clone);
        let Self { dialler, tls } = self.clone();
        Box::pin(async move {
            let context =
                context.map_err(|_| DialError::Failed(format!("{origin}: no request context")))?;
            let ConnectContext { to, deadline, progress } = context;
            let tls = tls.as_ref().map(|tls| (tls, Protocols::Http));
            let permit = dialler.http_connections.acquire(&to)?;
            let stream = dialler.dial(&to, tls, deadline, &progress).await?;
            Ok(TokioIo::new(HttpConnection::new(stream, permit)))
        })
    }
}

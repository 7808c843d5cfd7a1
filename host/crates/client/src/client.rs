//! Client: settings, and one method for each request.

use crate::{buffered_response::Response, client_error::ClientError, value_response::Value};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Empty;
use percent_encoding::{AsciiSet, CONTROLS, PercentEncode, utf8_percent_encode};
use reloader_api_types::{
    CommandResult, Diff, History, Problem, RejectedValue, SourceDetail, Sources,
};
use reloader_net::host_client;
use reloader_util::{blocking_pool::BlockingPool, sanitize::sanitize};
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UnixStream, runtime::Handle, time::timeout};
use url::Url;

/// Client of a running host. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Settings>);

#[derive(Clone)]
struct Settings {
    target: Target,
    token: Option<HeaderValue>,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    timeout: Duration,
    max_value_bytes: usize,
}

#[derive(Clone)]
enum Target {
    Http(Url),
    Unix(PathBuf),
}

/// Default time limit of a request. It is long, because a rollback responds only after the write of its value to disk.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit of the connection to a Unix socket. Only its file system, or a host that is stopped, can delay it.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);
/// Default size limit of a value, in bytes.
const DEFAULT_MAX_VALUE_BYTES: usize = 256 << 20;
/// Size limit of a response other than a value, in bytes. It leaves room for a page of the list of sources.
const MAX_STATUS_BYTES: usize = 64 << 20;
/// Maximum number of sources on all pages of the list together.
const MAX_SOURCES: usize = 1_000_000;

/// Threads that access files: the socket of a host, and TLS files.
static POOL: BlockingPool = BlockingPool::new("reloader-client", 8);

/// Characters that are percent-encoded in a path segment and in a query parameter.
const ENCODE_SET: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'/')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?');

impl Client {
    /// Creates a client for the host at this address: `http://…`, `https://…`, or `unix:PATH`.
    ///
    /// # Errors
    ///
    /// Fails with [`ClientError::InvalidAddress`] if the address is invalid.
    pub fn new(address: &str) -> Result<Self, ClientError> {
        if let Some(path) = address.strip_prefix("unix:") {
            return Ok(Self::with_target(Target::Unix(path.into())));
        }
        let invalid = |reason| ClientError::InvalidAddress { address: address.into(), reason };
        Ok(Self::with_target(Target::Http(host_client::parse_url(address).map_err(invalid)?)))
    }

    /// Creates a client for the host that listens on this Unix socket.
    #[must_use]
    pub fn at_socket(path: &Path) -> Self {
        Self::with_target(Target::Unix(path.into()))
    }

    fn with_target(target: Target) -> Self {
        Self(Arc::new(Settings {
            target,
            token: None,
            ca: None,
            identity: None,
            timeout: DEFAULT_TIMEOUT,
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
        }))
    }

    /// Sets the token that the client sends.
    ///
    /// # Errors
    ///
    /// Fails with [`ClientError::InvalidToken`] if the token contains characters that a header must not contain.
    pub fn token(self, token: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| ClientError::InvalidToken)?;
        value.set_sensitive(true);
        Ok(self.with(|settings| settings.token = Some(value)))
    }

    /// Sets a PEM file with trusted certificate authorities, which replace those of the system.
    #[must_use]
    pub fn ca(self, path: impl Into<PathBuf>) -> Self {
        self.with(|settings| settings.ca = Some(path.into()))
    }

    /// Sets the client certificate and its key, both PEM files.
    #[must_use]
    pub fn identity(self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.with(|settings| settings.identity = Some((cert.into(), key.into())))
    }

    /// Sets the time limit of a request. Default: one minute. The duration of a long poll is added to it.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.timeout = timeout)
    }

    /// Sets the size limit of a value, in bytes. Default: 256 MiB.
    #[must_use]
    pub fn value_max(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_value_bytes = bytes)
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Returns the status of all sources: joins the pages of the list.
    ///
    /// # Errors
    ///
    /// Fails with [`ClientError`] if a request fails, or if the host has more than a million sources.
    pub async fn sources(&self) -> Result<Sources, ClientError> {
        let mut all: Sources = self.json(Method::GET, "/v1/sources").await?;
        while let Some(after) = all.next.take() {
            let path = format!("/v1/sources?after={}", encode(&after));
            let page: Sources = self.json(Method::GET, &path).await?;
            let is_bounded = all.sources.len() + page.sources.len() <= MAX_SOURCES;
            if !is_bounded || page.next.as_ref().is_some_and(|next| *next <= after) {
                let reason = "the list of sources is too long, or its pages are out of order";
                return Err(ClientError::InvalidResponse(reason.into()));
            }
            all.sources.extend(page.sources);
            all.next = page.next;
        }
        Ok(all)
    }

    /// Returns the detailed status of a source.
    ///
    /// # Errors
    ///
    /// Fails if the request fails, or if the source does not exist.
    pub async fn source(&self, name: &str) -> Result<SourceDetail, ClientError> {
        self.json(Method::GET, &source_path(name, "")).await
    }

    /// Returns the current value of a source, or the value of a revision.
    ///
    /// # Errors
    ///
    /// Fails if the request fails, if the value does not exist, or if the client may not read it.
    pub async fn value(&self, name: &str, revision: Option<u64>) -> Result<Value, ClientError> {
        let query = revision.map(|revision| format!("?revision={revision}")).unwrap_or_default();
        let path = source_path(name, &format!("/value{query}"));
        Value::from_response(self.get(&path, None, Duration::ZERO).await?)
    }

    /// Returns the revisions in the history of a source, newest first.
    ///
    /// # Errors
    ///
    /// Fails if the request fails, or if the host has no state store.
    pub async fn history(&self, name: &str) -> Result<History, ClientError> {
        self.json(Method::GET, &source_path(name, "/history")).await
    }

    /// Returns the last rejected value of a source, if there is one.
    ///
    /// # Errors
    ///
    /// Fails if the request fails, or if the host has no state store.
    pub async fn rejected_value(&self, name: &str) -> Result<Option<RejectedValue>, ClientError> {
        self.json(Method::GET, &source_path(name, "/rejected")).await
    }

    /// Returns the differences between two revisions of a source. If `to` is `None`, it is the current revision.
    ///
    /// # Errors
    ///
    /// Fails if the request fails, or if the value of a revision is not stored or is not text.
    pub async fn diff(&self, name: &str, from: u64, to: Option<u64>) -> Result<Diff, ClientError> {
        let to = to.map(|to| format!("&to={to}")).unwrap_or_default();
        self.json(Method::GET, &source_path(name, &format!("/diff?from={from}{to}"))).await
    }

    /// Requests an immediate read of a source.
    ///
    /// # Errors
    ///
    /// Fails if the request fails, or if the source has ended.
    pub async fn reload(&self, name: &str) -> Result<CommandResult, ClientError> {
        self.json(Method::POST, &source_path(name, "/reload")).await
    }

    /// Rolls a source back: publishes the value of the earlier revision `to` again, and pins the source to it. By
    /// default, `to` is the newest older stored revision with another value than the current revision. If the source
    /// is pinned, the pinned revision counts as the current one, so that repeated rollbacks go further back.
    ///
    /// # Errors
    ///
    /// Fails if the request fails, or if the revision is not stored.
    pub async fn rollback(
        &self,
        name: &str,
        to: Option<u64>,
    ) -> Result<CommandResult, ClientError> {
        let to = to.map(|to| format!("?to={to}")).unwrap_or_default();
        self.json(Method::POST, &source_path(name, &format!("/rollback{to}"))).await
    }

    /// Removes the pin of a source.
    ///
    /// # Errors
    ///
    /// Fails if the request fails, or if the source does not exist.
    pub async fn resume(&self, name: &str) -> Result<CommandResult, ClientError> {
        self.json(Method::POST, &source_path(name, "/resume")).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        let response =
            self.send(Request::builder().method(method), path, MAX_STATUS_BYTES, Duration::ZERO);
        let response = response.await?;
        let invalid = |error| {
            ClientError::InvalidResponse(format!(
                "unexpected JSON: {error}; hint: compare the versions of client and host"
            ))
        };
        serde_json::from_slice(&response.content).map_err(invalid)
    }

    /// Requests a value. If `known` is the `ETag` of the current value, the host responds `304 Not Modified`. `wait` is
    /// the time that `path` asks the host to wait for a different value; it is added to the time limit.
    pub(crate) async fn get(
        &self,
        path: &str,
        known: Option<&HeaderValue>,
        wait: Duration,
    ) -> Result<Response, ClientError> {
        let mut request = Request::builder();
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        self.send(request, path, self.0.max_value_bytes, wait).await
    }

    /// Sends a request and reads the response, of at most `limit` bytes. `wait` is added to the time limit.
    async fn send(
        &self,
        request: http::request::Builder,
        path: &str,
        limit: usize,
        wait: Duration,
    ) -> Result<Response, ClientError> {
        let failed = |error: http::Error| ClientError::RequestFailed(error.to_string());
        let prefix = match &self.0.target {
            Target::Http(url) => url.path().trim_end_matches('/'),
            Target::Unix(_) => "",
        };
        let request = request.uri(format!("{prefix}{path}"));
        let mut request = request.body(Empty::<Bytes>::new()).map_err(failed)?;
        if let Some(token) = &self.0.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let deadline = self.0.timeout.saturating_add(wait);
        let response =
            timeout(deadline, self.exchange(request, limit)).await.unwrap_or_else(|_| {
                Err(ClientError::RequestFailed(format!("no response within {deadline:?}")))
            })?;
        if response.status.is_success() || response.status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let problem = serde_json::from_slice::<Problem>(&response.content);
        let status = response.status.as_u16();
        let detail = problem.map_or_else(
            |_| format!("not a reloader host (response with status {status})"),
            |problem| sanitize(&problem.detail),
        );
        Err(ClientError::ErrorResponse { status, detail })
    }

    async fn exchange(
        &self,
        request: Request<Empty<Bytes>>,
        limit: usize,
    ) -> Result<Response, ClientError> {
        let read = async |response| Ok(Response::read(response, limit).await);
        let exchanged = match &self.0.target {
            Target::Unix(path) => {
                let (runtime, socket) = (Handle::current(), path.clone());
                // Connects on a pool thread: the call blocks if the file system of the socket does not answer.
                let connected = POOL.spawn(move || runtime.block_on(UnixStream::connect(socket)));
                let connected = match timeout(SOCKET_TIMEOUT, connected).await {
                    Ok(connected) => connected.unwrap_or_else(|error| Err(error.into())),
                    Err(_) => Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!(
                            "no answer within {SOCKET_TIMEOUT:?}; does its file system respond?"
                        ),
                    )),
                };
                let stream = connected.map_err(|error| ClientError::SocketUnavailable {
                    path: path.clone(),
                    error,
                })?;
                host_client::exchange(stream, "localhost", request, read).await
            }
            Target::Http(url) => {
                let tls = self.tls(url).await?;
                let stream =
                    host_client::connect(url, tls).await.map_err(ClientError::RequestFailed)?;
                host_client::exchange(stream, &host_client::authority(url), request, read).await
            }
        };
        exchanged.map_err(ClientError::RequestFailed)?
    }

    async fn tls(&self, url: &Url) -> Result<Option<Arc<ClientConfig>>, ClientError> {
        if url.scheme() != "https" {
            return Ok(None);
        }
        let settings = Arc::clone(&self.0);
        let config = POOL.spawn(move || {
            let identity = settings.identity.as_ref();
            let identity = identity.map(|(cert, key)| (cert.as_path(), key.as_path()));
            host_client::client_config(settings.ca.as_deref(), identity)
        });
        let config = config.await.unwrap_or_else(|error| Err(error.to_string()));
        config.map(Some).map_err(ClientError::InvalidTls)
    }
}

/// Returns the path of a resource of a source.
pub(crate) fn source_path(name: &str, rest: &str) -> String {
    format!("/v1/sources/{}{rest}", encode(name))
}

fn encode(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, ENCODE_SET)
}

/// Omits the API token, which is secret.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match &self.0.target {
            Target::Http(url) => url.to_string(),
            Target::Unix(path) => format!("unix:{}", path.display()),
        };
        f.debug_struct("Client").field("target", &target).finish_non_exhaustive()
    }
}

//! Client of a running host: status of its sources, their values, and each new value.
//!
//! A crate of its own, so that a program that only reads values builds neither wasmtime nor the server.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use reloader_client::{Client, News};
//!
//! let host = Client::new("http://127.0.0.1:7878")?;
//! let mut values = host.watch("app");
//! loop {
//!     match values.next().await? {
//!         News::Value(value) => println!("{}: {:?}", value.revision, value.content),
//!         News::Removed { .. } => println!("there is none any more"),
//!     }
//! }
//! # }
//! ```
//!
//! Over HTTP, HTTPS, or a socket of this machine. Each request has a connection of its own, and a limit.

mod watch;

pub use watch::{News, Watching};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reloader_api_types::{Diff, Done, History, Problem, RefusedValue, SourceDetail, Sources};
use reloader_net::host_client;
use reloader_util::sanitize::sanitize;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UnixStream, task::spawn_blocking, time::timeout};
use url::Url;

/// A running host, to be asked. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Settings>);

#[derive(Clone)]
struct Settings {
    target: Target,
    token: Option<HeaderValue>,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    timeout: Duration,
    value_max: usize,
}

#[derive(Clone)]
enum Target {
    Http(Url),
    Unix(PathBuf),
}

/// Why there is no answer, or none that is of use.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What was named cannot be asked.
    #[error("`{address}`: {why}")]
    Address {
        /// What was named.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// No host listens at the socket.
    #[error("no host listens at `{}`: {error}", path.display())]
    NotThere {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// TLS cannot be spoken like that.
    #[error("TLS cannot be spoken: {0}")]
    Tls(String),
    /// Something went wrong on the way.
    #[error("asking the running host failed: {0}")]
    Failed(String),
    /// There is an answer, but none that is understood, or one that is too large.
    #[error("the answer is of no use: {0}")]
    Answer(String),
    /// It has said no.
    #[error("{detail}")]
    Refused {
        /// The status of its answer.
        status: u16,
        /// Why, and what to do about it.
        detail: String,
    },
}

impl ClientError {
    /// Whether the same may work a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Address { .. } | Self::Tls(_) | Self::Answer(_) => false,
            Self::NotThere { .. } | Self::Failed(_) => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
        }
    }
}

/// A value, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The content.
    pub content: Bytes,
    /// What it is, where the source says.
    pub media_type: Option<String>,
    /// Its revision.
    pub revision: u64,
    /// When it was published, if that is known.
    pub at: Option<Timestamp>,
    /// In one word: `current`, `stale`, or `past`.
    pub state: String,
    etag: Option<HeaderValue>,
}

/// An answer takes no longer: a rollback waits for the disk.
const TIMEOUT: Duration = Duration::from_secs(60);
/// No value is larger, in bytes, unless that is allowed.
const VALUE_MAX: usize = 256 << 20;
/// What says how all sources are is no larger, in bytes.
const STATUS_MAX: usize = 64 << 20;

/// What does not stand for itself in a segment of a path.
const SEGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b'<').add(b'>').add(b'?');

impl Client {
    /// Of the host that serves at this address: `http://…`, `https://…`, or `unix:PATH`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Address`] when it is none.
    pub fn new(address: &str) -> Result<Self, ClientError> {
        if let Some(path) = address.strip_prefix("unix:") {
            return Ok(Self::of(Target::Unix(path.into())));
        }
        let wrong = |why| ClientError::Address { address: address.into(), why };
        Ok(Self::of(Target::Http(host_client::parse(address).map_err(wrong)?)))
    }

    /// Of the host that listens at this socket.
    #[must_use]
    pub fn at_socket(path: &Path) -> Self {
        Self::of(Target::Unix(path.into()))
    }

    fn of(target: Target) -> Self {
        Self(Arc::new(Settings {
            target,
            token: None,
            ca: None,
            identity: None,
            timeout: TIMEOUT,
            value_max: VALUE_MAX,
        }))
    }

    /// Shows this token.
    ///
    /// # Errors
    ///
    /// [`ClientError::Address`] when it is none: it has characters that no header takes.
    pub fn token(self, token: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| ClientError::Address {
            address: "the token".into(),
            why: "it has characters that no token has".into(),
        })?;
        value.set_sensitive(true);
        Ok(self.with(|settings| settings.token = Some(value)))
    }

    /// Trusts the authorities in this PEM file, instead of this machine's.
    #[must_use]
    pub fn ca(self, path: impl Into<PathBuf>) -> Self {
        self.with(|settings| settings.ca = Some(path.into()))
    }

    /// Shows this certificate, with this key; both are PEM files.
    #[must_use]
    pub fn identity(self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.with(|settings| settings.identity = Some((cert.into(), key.into())))
    }

    /// How long an answer may take; a minute by default. What is waited for a new value comes besides.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.timeout = timeout)
    }

    /// How large a value may be, in bytes; 256 MiB by default.
    #[must_use]
    pub fn value_max(self, bytes: usize) -> Self {
        self.with(|settings| settings.value_max = bytes)
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// How all sources are.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for all that is asked.
    pub async fn sources(&self) -> Result<Sources, ClientError> {
        self.json(Method::GET, "/v1/sources").await
    }

    /// How a source is, in all detail.
    ///
    /// # Errors
    ///
    /// Also when there is no such source.
    pub async fn source(&self, name: &str) -> Result<SourceDetail, ClientError> {
        self.json(Method::GET, &of(name, "")).await
    }

    /// The present value of a source, or that of a revision.
    ///
    /// # Errors
    ///
    /// Also when there is none, or it is not to be read.
    pub async fn value(&self, name: &str, revision: Option<u64>) -> Result<Value, ClientError> {
        let query = revision.map(|revision| format!("?revision={revision}")).unwrap_or_default();
        let path = of(name, &format!("/value{query}"));
        Value::of(self.get(&path, None, Duration::ZERO).await?)
    }

    /// The value of a source, and each new one.
    #[must_use]
    pub fn watch(&self, name: &str) -> Watching {
        Watching::new(self.clone(), name)
    }

    /// The values that a source had.
    ///
    /// # Errors
    ///
    /// Also when nothing is remembered.
    pub async fn history(&self, name: &str) -> Result<History, ClientError> {
        self.json(Method::GET, &of(name, "/history")).await
    }

    /// What was not let through last of a source, if something was.
    ///
    /// # Errors
    ///
    /// Also when nothing is remembered.
    pub async fn refused(&self, name: &str) -> Result<Option<RefusedValue>, ClientError> {
        self.json(Method::GET, &of(name, "/refused")).await
    }

    /// What is different between two revisions of a source; `None` is the present one.
    ///
    /// # Errors
    ///
    /// Also when one of them is not remembered, or is no text.
    pub async fn diff(&self, name: &str, from: u64, to: Option<u64>) -> Result<Diff, ClientError> {
        let to = to.map(|to| format!("&to={to}")).unwrap_or_default();
        self.json(Method::GET, &of(name, &format!("/diff?from={from}{to}"))).await
    }

    /// Has a source read now.
    ///
    /// # Errors
    ///
    /// Also when it has ended.
    pub async fn reload(&self, name: &str) -> Result<Done, ClientError> {
        self.json(Method::POST, &of(name, "/reload")).await
    }

    /// Goes back to the value of a revision, or to the one before, and stays there.
    ///
    /// # Errors
    ///
    /// Also when there is none.
    pub async fn rollback(&self, name: &str, to: Option<u64>) -> Result<Done, ClientError> {
        let to = to.map(|to| format!("?to={to}")).unwrap_or_default();
        self.json(Method::POST, &of(name, &format!("/rollback{to}"))).await
    }

    /// Follows a source again.
    ///
    /// # Errors
    ///
    /// Also when there is no such source.
    pub async fn resume(&self, name: &str) -> Result<Done, ClientError> {
        self.json(Method::POST, &of(name, "/resume")).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        let answer = self.send(Request::builder().method(method), path, STATUS_MAX, Duration::ZERO);
        let answer = answer.await?;
        let other = |error| ClientError::Answer(format!("it is of another version: {error}"));
        serde_json::from_slice(&answer.content).map_err(other)
    }

    /// A value that is perhaps another one than the known one, if that is waited for.
    async fn get(
        &self,
        path: &str,
        known: Option<&HeaderValue>,
        wait: Duration,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder();
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        self.send(request, path, self.0.value_max, wait).await
    }

    /// Asks, and reads the answer, which may be waited for, and is no larger than this.
    async fn send(
        &self,
        request: http::request::Builder,
        path: &str,
        limit: usize,
        wait: Duration,
    ) -> Result<Answer, ClientError> {
        let failed = |error: http::Error| ClientError::Failed(error.to_string());
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
        let answer =
            timeout(deadline, self.exchange(request, limit)).await.unwrap_or_else(|_| {
                Err(ClientError::Failed(format!("there was no answer within {deadline:?}")))
            })?;
        if answer.status.is_success() || answer.status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        let problem = serde_json::from_slice::<Problem>(&answer.content);
        let status = answer.status.as_u16();
        let detail = problem.map_or_else(
            |_| format!("what answers there, with {status}, is no reloader host"),
            |problem| sanitize(&problem.detail),
        );
        Err(ClientError::Refused { status, detail })
    }

    async fn exchange(
        &self,
        request: Request<Empty<Bytes>>,
        limit: usize,
    ) -> Result<Answer, ClientError> {
        let read = async |answer| Ok(Answer::read(answer, limit).await);
        let exchanged = match &self.0.target {
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|error| ClientError::NotThere { path: path.clone(), error })?;
                host_client::exchange(stream, "localhost", request, read).await
            }
            Target::Http(url) => {
                let tls = self.tls(url).await?;
                let stream = host_client::connect(url, tls).await.map_err(ClientError::Failed)?;
                host_client::exchange(stream, &host_client::authority(url), request, read).await
            }
        };
        exchanged.map_err(ClientError::Failed)?
    }

    async fn tls(&self, url: &Url) -> Result<Option<Arc<ClientConfig>>, ClientError> {
        if url.scheme() != "https" {
            return Ok(None);
        }
        let settings = Arc::clone(&self.0);
        let made = spawn_blocking(move || {
            let identity = settings.identity.as_ref();
            let identity = identity.map(|(cert, key)| (cert.as_path(), key.as_path()));
            host_client::tls(settings.ca.as_deref(), identity)
        });
        let made = made.await.unwrap_or_else(|error| Err(error.to_string()));
        made.map(Some).map_err(ClientError::Tls)
    }
}

/// The path of something of a source.
fn of(name: &str, rest: &str) -> String {
    format!("/v1/sources/{}{rest}", utf8_percent_encode(name, SEGMENT))
}

/// Without what is secret.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match &self.0.target {
            Target::Http(url) => url.to_string(),
            Target::Unix(path) => format!("unix:{}", path.display()),
        };
        f.debug_struct("Client").field("target", &target).finish_non_exhaustive()
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    content: Bytes,
}

impl Answer {
    async fn read(answer: http::Response<Incoming>, limit: usize) -> Result<Self, ClientError> {
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => ClientError::Answer(format!("it is larger than {limit} bytes")),
            false => ClientError::Failed(error.to_string()),
        })?;
        Ok(Self { status: parts.status, headers: parts.headers, content: body.to_bytes() })
    }

    fn header(&self, name: &'static str) -> Option<&str> {
        self.headers.get(HeaderName::from_static(name))?.to_str().ok()
    }
}

impl Value {
    fn of(answer: Answer) -> Result<Self, ClientError> {
        let revision = answer.header("reloader-revision").and_then(|text| text.parse().ok());
        let Some(revision) = revision else {
            return Err(ClientError::Answer("what answers there is no reloader host".into()));
        };
        Ok(Self {
            revision,
            at: answer.header("reloader-at").and_then(|text| text.parse().ok()),
            state: answer.header("reloader-state").unwrap_or_default().into(),
            // This one stands for none.
            media_type: answer
                .header("content-type")
                .filter(|media_type| *media_type != "application/octet-stream")
                .map(Into::into),
            etag: answer.headers.get(header::ETAG).cloned(),
            content: answer.content,
        })
    }
}

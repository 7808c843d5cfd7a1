//! HTTP requests to origins that the settings name.

use std::{fmt, time::Duration};

/// A request. It is sent by [`Host::send`](crate::Host::send).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, e.g. `GET`.
    pub method: String,
    /// An absolute URL, `http` or `https`.
    pub url: String,
    /// Header fields, in order.
    pub headers: Vec<(String, String)>,
    /// The body; empty for most.
    pub body: Vec<u8>,
    /// Time for connecting and for the response's headers to arrive, both together.
    pub timeout: Duration,
}

impl Request {
    /// A GET request that waits ten seconds at most.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: "GET".into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(10),
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how long to wait for the connection and the response's headers together.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// A response whose headers have arrived; its body comes when it is read.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    body: Box<dyn BodyBackend>,
}

impl Response {
    pub(crate) fn new(
        status: u16,
        headers: Vec<(String, String)>,
        body: impl BodyBackend + 'static,
    ) -> Self {
        Self { status, headers, body: Box::new(body) }
    }

    /// The first header field of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// How many bytes the server says that the body has. It need not be true.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The next piece of the body, at most `timeout` later: [`Chunk::End`] once it is complete.
    ///
    /// # Errors
    ///
    /// When the connection is lost before the body is complete.
    pub fn chunk(&mut self, timeout: Duration) -> Result<Chunk, HttpError> {
        self.body.chunk(timeout)
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// [`HttpError::TooLarge`] when it is longer than `limit` bytes, [`HttpError::TimedOut`] when
    /// nothing arrives for `timeout`.
    pub fn bytes(mut self, limit: usize, timeout: Duration) -> Result<Vec<u8>, HttpError> {
        self.bytes_while(limit, || Some(timeout))
    }

    /// The whole body; `wait` says before each piece how long it may take, and ends it with `None`.
    ///
    /// # Errors
    ///
    /// [`HttpError::TooLarge`] when it is longer than `limit` bytes, [`HttpError::TimedOut`] when
    /// nothing arrives for as long as `wait` said, or there is no more time.
    pub fn bytes_while(
        &mut self,
        limit: usize,
        mut wait: impl FnMut() -> Option<Duration>,
    ) -> Result<Vec<u8>, HttpError> {
        let announced = self.content_length().and_then(|length| length.try_into().ok());
        let mut all = Vec::with_capacity(announced.unwrap_or(0).min(limit));
        loop {
            match self.chunk(wait().ok_or(HttpError::TimedOut)?)? {
                Chunk::Bytes(bytes) => append(&mut all, &bytes, limit)?,
                Chunk::End => return Ok(all),
                Chunk::Nothing => return Err(HttpError::TimedOut),
            }
        }
    }
}

/// Adds a piece to what came before. It makes room for twice as much each time, and from a quarter of `limit`
/// on for all that there may be, if there is so much: a plugin has little memory, and what has been moved
/// often leaves gaps.
fn append(all: &mut Vec<u8>, piece: &[u8], limit: usize) -> Result<(), HttpError> {
    let left = limit.saturating_sub(all.len());
    if piece.len() > left {
        let why = format!("the response's body is longer than {limit} bytes");
        return Err(HttpError::TooLarge(why));
    }
    if all.capacity() - all.len() < piece.len() {
        let has_room = all.len() >= limit / 4 && all.try_reserve_exact(left).is_ok();
        if !has_room {
            all.reserve_exact(all.len().max(piece.len()).min(left));
        }
    }
    all.extend_from_slice(piece);
    Ok(())
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// What reading a piece of a body came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Some bytes.
    Bytes(Vec<u8>),
    /// Nothing in the time allowed; the connection stands.
    Nothing,
    /// The body is complete.
    End,
}

pub(crate) trait BodyBackend {
    fn chunk(&mut self, timeout: Duration) -> Result<Chunk, HttpError>;
}

/// Why a request failed before there was a response, or while its body was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpError {
    /// The origin is not granted; the message says what would allow it.
    Denied(String),
    /// Longer than a limit, which the message names.
    TooLarge(String),
    /// Nothing arrived in the time allowed.
    TimedOut,
    /// Anything else: no such name, refused, a TLS error, a broken response.
    Failed(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(message) | Self::TooLarge(message) | Self::Failed(message) => {
                f.write_str(message)
            }
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}

impl std::error::Error for HttpError {}

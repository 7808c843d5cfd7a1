//! HTTP requests to granted origins.

use std::{fmt, time::Duration};

/// An HTTP request, sent by [`Host::send`](crate::Host::send).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method, e.g. `GET`.
    pub method: String,
    /// Absolute URL with the scheme `http` or `https`.
    pub url: String,
    /// Header fields, in order.
    pub headers: Vec<(String, String)>,
    /// Body. An empty body is not sent.
    pub body: Vec<u8>,
    /// Timeout until the response headers arrive, including the time to connect.
    pub timeout: Duration,
}

impl Request {
    /// Creates a GET request with a timeout of 10 seconds.
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

    /// Sets the timeout until the response headers arrive, including the time to connect.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// A response with its headers. The plugin reads the body in chunks while it arrives.
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields in order, with lower-case names.
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

    /// Returns the first header field with this name. The name must be in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Returns the `Content-Length` in bytes. The actual body may have a different length.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// Waits at most `timeout` for the next chunk of the body. Returns [`Chunk::End`] after the last one.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection is lost before the body is complete.
    pub fn chunk(&mut self, timeout: Duration) -> Result<Chunk, HttpError> {
        self.body.chunk(timeout)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    ///
    /// Returns [`HttpError::TooLarge`] if the body is longer than `limit` bytes, and
    /// [`HttpError::TimedOut`] if no data arrives for `timeout`.
    pub fn bytes(mut self, limit: usize, timeout: Duration) -> Result<Vec<u8>, HttpError> {
        self.bytes_while(limit, || Some(timeout))
    }

    /// Reads the whole body with a variable timeout. Before each chunk, `wait` returns the timeout for
    /// that chunk, or `None` to stop.
    ///
    /// # Errors
    ///
    /// Returns [`HttpError::TooLarge`] if the body is longer than `limit` bytes, and
    /// [`HttpError::TimedOut`] if a chunk times out or `wait` returns `None`.
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

/// Appends a chunk to the body. The capacity doubles on growth. From a quarter of `limit` on, the full
/// `limit` is reserved if that much memory is available, because each reallocation leaves an unused gap
/// in the small memory of a plugin.
fn append(all: &mut Vec<u8>, piece: &[u8], limit: usize) -> Result<(), HttpError> {
    let left = limit.saturating_sub(all.len());
    if piece.len() > left {
        let why = format!("the response body is longer than {limit} bytes");
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

/// Result of reading the next chunk of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// The next bytes of the body.
    Bytes(Vec<u8>),
    /// Timeout without data. The connection remains usable.
    Nothing,
    /// End of the body.
    End,
}

pub(crate) trait BodyBackend {
    fn chunk(&mut self, timeout: Duration) -> Result<Chunk, HttpError>;
}

/// Error of a request or of reading a response body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpError {
    /// The origin is not granted. The message names the missing grant.
    Denied(String),
    /// The body exceeds a size limit. The message names the limit.
    TooLarge(String),
    /// The timeout expired before a response or the next chunk arrived.
    TimedOut,
    /// Any other error: name not found, connection refused, TLS error, invalid response.
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

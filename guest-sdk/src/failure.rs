//! Failures of plugin calls, classified by the host's reaction.

use crate::{EndpointError, FileError, HttpError};
use std::{fmt, time::Duration};

/// Failure of a plugin call. Its kind determines the host's reaction. A failure never removes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Kind of the failure.
    pub kind: FailureKind,
    /// Description of the failure, for the operator.
    pub message: String,
}

/// Kind of a failure. It determines how the host continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The settings are invalid, independently of the state of the source. A source that has had no value yet
    /// ends. Otherwise the host retries at a low rate.
    Config,
    /// Access was denied, by the host's grants or by the server. The host retries at a low rate.
    Denied,
    /// A temporary failure. The host retries with exponential backoff.
    Transient {
        /// Minimum delay before the next call, requested by the server, e.g. with `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// A failure that is unlikely to resolve soon. The host retries at a low rate.
    Permanent,
}

impl Failure {
    /// Creates a failure for invalid settings.
    pub fn config(message: impl fmt::Display) -> Self {
        Self::with_kind(FailureKind::Config, message)
    }

    /// Creates a failure for denied access.
    pub fn denied(message: impl fmt::Display) -> Self {
        Self::with_kind(FailureKind::Denied, message)
    }

    /// Creates a temporary failure. The host retries with exponential backoff.
    pub fn transient(message: impl fmt::Display) -> Self {
        Self::with_kind(FailureKind::Transient { retry_after: None }, message)
    }

    /// Creates a temporary failure. The host waits at least `retry_after` before it retries.
    pub fn retry_after(message: impl fmt::Display, retry_after: Duration) -> Self {
        Self::with_kind(FailureKind::Transient { retry_after: Some(retry_after) }, message)
    }

    /// Creates a failure that is unlikely to resolve soon. The host retries at a low rate.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self::with_kind(FailureKind::Permanent, message)
    }

    /// Prefixes the message with a context, e.g. the operation or the address: `context: message`.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    fn with_kind(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Denied(message) => Self::denied(message),
            FileError::TooLarge(message) => Self::permanent(message),
            FileError::NotFound | FileError::Failed(_) => Self::transient(error),
        }
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::Denied(message) => Self::denied(message),
            other => Self::transient(other),
        }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Denied(message) => Self::denied(message),
            HttpError::TooLarge(message) => Self::permanent(message),
            HttpError::TimedOut | HttpError::Failed(_) => Self::transient(error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // I/O errors of a `Connection` wrap an `EndpointError`.
        match error.downcast::<EndpointError>() {
            Ok(error) => error.into(),
            Err(error) => Self::transient(error),
        }
    }
}

//! Why a call failed, in the kinds that make a difference to the host.

use crate::{EndpointError, FileError, HttpError};
use std::{fmt, time::Duration};

/// Why a call failed. The kind decides what the host does next; no failure ever removes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the host should make of it.
    pub kind: FailureKind,
    /// What happened, in words for the operator.
    pub message: String,
}

/// What the host should make of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The settings cannot work, whatever the source does.
    Config,
    /// Something was refused, by the host's grants or by the source.
    Denied,
    /// May go away by itself. The source may have asked to be left alone for a while.
    Transient {
        /// How long the source asked not to be called again.
        retry_after: Option<Duration>,
    },
    /// Will not go away soon.
    Permanent,
}

impl Failure {
    /// The settings cannot work, whatever the source does.
    pub fn config(message: impl fmt::Display) -> Self {
        Self::of(FailureKind::Config, message)
    }

    /// Something was refused.
    pub fn denied(message: impl fmt::Display) -> Self {
        Self::of(FailureKind::Denied, message)
    }

    /// May go away by itself: the host tries again, with growing pauses.
    pub fn transient(message: impl fmt::Display) -> Self {
        Self::of(FailureKind::Transient { retry_after: None }, message)
    }

    /// May go away by itself, but not before `retry_after` has passed.
    pub fn retry_after(message: impl fmt::Display, retry_after: Duration) -> Self {
        Self::of(FailureKind::Transient { retry_after: Some(retry_after) }, message)
    }

    /// Will not go away soon: the host tries again, but rarely.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self::of(FailureKind::Permanent, message)
    }

    /// The same failure, with what was being done in front of its message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    fn of(kind: FailureKind, message: impl fmt::Display) -> Self {
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
        // Reads and writes on a connection carry the connection's own error.
        match error.downcast::<EndpointError>() {
            Ok(error) => error.into(),
            Err(error) => Self::transient(error),
        }
    }
}

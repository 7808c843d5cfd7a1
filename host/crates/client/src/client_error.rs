//! Error of a request to a host.

use std::{io, path::PathBuf};

/// Error of a request to a host.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the host's API is invalid.
    #[error("`{address}`: {reason}")]
    InvalidAddress {
        /// Address as the caller passed it.
        address: String,
        /// Reason why the address is invalid.
        reason: String,
    },
    /// Token with characters that a header must not contain.
    #[error("the token contains characters that a header must not contain")]
    InvalidToken,
    /// Failed connection to the Unix socket: usually, the host is not running.
    #[error("cannot connect to the host at `{}`: {error}", path.display())]
    SocketUnavailable {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Invalid TLS settings.
    #[error("invalid TLS settings: {0}")]
    InvalidTls(String),
    /// Failed connection or request.
    #[error("request to the host failed: {0}")]
    RequestFailed(String),
    /// Invalid or too large response.
    #[error("invalid response from the host: {0}")]
    InvalidResponse(String),
    /// Error response of the host.
    #[error("{detail}")]
    ErrorResponse {
        /// HTTP status code of the response.
        status: u16,
        /// Message of the host: the cause and the next step.
        detail: String,
    },
}

impl ClientError {
    /// Returns whether a retry may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::InvalidAddress { .. }
            | Self::InvalidToken
            | Self::InvalidTls(_)
            | Self::InvalidResponse(_) => false,
            Self::SocketUnavailable { .. } | Self::RequestFailed(_) => true,
            Self::ErrorResponse { status, .. } => *status >= 500 || *status == 429,
        }
    }
}

//! Error of a reloader or of its service.

use std::{borrow::Cow, fmt::Display};
use tokio::sync::watch;

/// Error of a reloader or of its service.
#[derive(Debug, thiserror::Error)]
pub enum ReloaderError<V, S = &'static str>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    /// The service has stopped: it sends no further values.
    #[error("Error at reloaded value receiver")]
    WatchRecvError(#[from] watch::error::RecvError),
    /// All receivers are dropped. The error contains the unsent value.
    #[error("Error at reloaded value sender")]
    WatchSendError(#[from] watch::error::SendError<Option<V>>),
    /// The value could not be loaded.
    #[error("Failed to reload: {0}")]
    Reload(S),
    /// Any other error.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Result of a reloader or of its service.
pub type ReloadResult<T, V, S = &'static str> = Result<T, ReloaderError<V, S>>;

//! What a sink is.

use super::Update;
use async_trait::async_trait;
use std::time::Duration;

/// Somewhere that values go.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Delivers these values. Called for one update at a time, and again with the same one after a
    /// failure. It may be dropped at any point, when it takes longer than the sink's deadline; what it
    /// has begun must not undo then what a later call does.
    ///
    /// # Errors
    ///
    /// Why it could not, and whether to try again.
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError>;

    /// Whether it looks itself at what is there, as a file can. Then it is called at each start, and not
    /// only if these are other values than it has delivered last.
    fn looks_itself(&self) -> bool {
        false
    }
}

/// What a sink has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Something is different now.
    Changed,
    /// It was there already.
    Same,
}

/// Why something could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// In words for the operator, without the value: it may be a secret.
    pub message: String,
    /// Whether to try again.
    pub retry: Retry,
}

/// Whether the same may work later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// After a while.
    Yes,
    /// Not before this time is over.
    After(Duration),
    /// No: only other values, or other settings.
    No,
}

impl SinkError {
    /// One that may go away by itself.
    pub fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Yes }
    }

    /// One that will not, for these values.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::No }
    }
}

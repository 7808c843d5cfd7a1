//! Error of a command on a running host: read, history, refresh, rollback, resume.

/// Reason why a running host rejects a command, as a message for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The source or its revision does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The state of the source or of the host does not allow the command.
    #[error("{0}")]
    Conflict(String),
    /// An internal operation failed, such as a read of the state store.
    #[error("{0}")]
    Failed(String),
}

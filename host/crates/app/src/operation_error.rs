//! Error of an operation on a running host: read, history, reload, rollback, resume.

/// Reason why a running host rejects an operation, as a message for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The source or its revision does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The state of the source or of the host does not allow the operation.
    #[error("{0}")]
    Conflict(String),
    /// An internal step failed, such as a read of the state store.
    #[error("{0}")]
    Failed(String),
}

//! Errors of the state store.

use crate::lock_holder::LockHolder;
use std::{io, path::PathBuf, sync::Arc};

/// Reason why the state store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the lock of the directory.
    #[error("state directory {} {holder}", directory.display())]
    InUse {
        /// State directory.
        directory: PathBuf,
        /// Process that holds the lock, as far as it is known.
        holder: LockHolder,
    },
    /// A directory or file has the wrong type or owner, or other users can write to it.
    #[error("{} cannot be used for the state store: {reason}", path.display())]
    Unsafe {
        /// Directory or file.
        path: PathBuf,
        /// Reason, and for some reasons a hint with the next step.
        reason: String,
    },
    /// A system call failed.
    #[error("state store: cannot {operation} {}: {error}", path.display())]
    Io {
        /// Directory or file.
        path: PathBuf,
        /// Operation that failed, as a verb.
        operation: &'static str,
        /// Error of the system.
        #[source]
        error: io::Error,
    },
}

impl OpenError {
    /// Returns whether the cause is a full disk, an exceeded quota or a reached file size limit.
    pub(crate) fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let Self::Io { error, .. } = self else { return false };
        matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
    }
}

/// Reason why stored state could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store is closed, or the disk fails.
    #[error("state store unavailable: {0}")]
    Unavailable(Arc<str>),
    /// A stored record or value is damaged.
    #[error("stored state is damaged: {0}")]
    Damaged(Arc<str>),
}

/// Error of [`State::close`](crate::State::close): some queued writes did not reach the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state store {} closed with unwritten changes: {reason}", path.display())]
pub struct Unwritten {
    /// State directory.
    pub path: PathBuf,
    /// Reason why the changes could not be written.
    pub reason: Arc<str>,
}

/// Error of a database transaction.
#[derive(Debug)]
pub(crate) enum StoreError {
    Database(Box<redb::Error>),
    Damaged(String),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Damaged(reason) => f.write_str(reason),
        }
    }
}

macro_rules! from_redb_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb_errors!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) if !matches!(*error, redb::Error::Corrupted(_)) => {
                Self::Unavailable(error.to_string().into())
            }
            error => Self::Damaged(error.to_string().into()),
        }
    }
}

//! What can go wrong with the state.

use std::{io, path::PathBuf, sync::Arc};

/// Why the state could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another host uses it.
    #[error(
        "the state in {} is in use by another host{}; stop that one, or set another `path` in `[state]`",
        directory.display(),
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The state's directory.
        directory: PathBuf,
        /// The process that uses it, where that is known.
        pid: Option<u32>,
    },
    /// Others could read or change what is remembered.
    #[error("the state cannot be kept in {}: {reason}", path.display())]
    Unsafe {
        /// The directory or file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The system refused something.
    #[error("the state in {} cannot be opened: {doing}: {error}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What was refused.
        doing: &'static str,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
}

/// Why something could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The state cannot be used now: it was closed, or the disk fails.
    #[error("the state cannot be read now: {0}")]
    Unavailable(Arc<str>),
    /// What is there makes no sense.
    #[error("what is remembered is damaged: {0}")]
    Damaged(Arc<str>),
}

/// Why the database did not do what it was to do.
#[derive(Debug)]
pub(crate) enum Fault {
    Database(Box<redb::Error>),
    Damaged(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Damaged(what) => f.write_str(what),
        }
    }
}

macro_rules! faults {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
faults!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Database(error) if !matches!(*error, redb::Error::Corrupted(_)) => {
                Self::Unavailable(error.to_string().into())
            }
            fault => Self::Damaged(fault.to_string().into()),
        }
    }
}

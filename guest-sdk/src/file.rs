//! Files that the settings name.

use crate::host::FileWatchBackend;
use std::{fmt, time::Duration};

/// Tells when a file may have changed. Made by [`Host::watch_file`](crate::Host::watch_file).
pub struct FileWatch(pub(crate) Box<dyn FileWatchBackend>);

impl FileWatch {
    /// Waits until the file may have changed since the last call, at most `timeout`. Changes between
    /// two calls are kept. True when there was one.
    ///
    /// # Errors
    ///
    /// When the file can no longer be watched.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, FileError> {
        self.0.wait(timeout)
    }
}

impl fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileWatch")
    }
}

/// Why a file could not be read or watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileError {
    /// No such file, now.
    NotFound,
    /// The path is not granted; the message says what would allow it.
    Denied(String),
    /// Larger than the host's limit, which the message names.
    TooLarge(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such file"),
            Self::Denied(message) | Self::TooLarge(message) | Self::Failed(message) => {
                f.write_str(message)
            }
        }
    }
}

impl std::error::Error for FileError {}

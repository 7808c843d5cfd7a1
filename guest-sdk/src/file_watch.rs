//! Watch of a file that the settings name, and the errors of reading and watching.

use std::{fmt, time::Duration};

/// Watch of one file. Created by [`Host::watch_file`](crate::Host::watch_file).
pub struct FileWatch(pub(crate) Box<dyn FileWatchBackend>);

impl FileWatch {
    /// Waits at most `timeout` for a possible change of the file since the previous call. Returns `true`
    /// if the file may have changed. Changes between two calls are not lost.
    ///
    /// # Errors
    ///
    /// Returns an error if the file can no longer be watched.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, FileError> {
        self.0.wait(timeout)
    }
}

impl fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileWatch")
    }
}

/// Implementation behind a [`FileWatch`]: a watch of the host, or a fake one in tests.
pub(crate) trait FileWatchBackend {
    fn wait(&mut self, timeout: Duration) -> Result<bool, FileError>;
}

/// Error of reading or watching a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileError {
    /// The file does not exist at the moment.
    NotFound,
    /// The path is not granted. The message names the missing grant.
    Denied(String),
    /// The file is larger than the host's limit. The message names the limit.
    TooLarge(String),
    /// Any other error.
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

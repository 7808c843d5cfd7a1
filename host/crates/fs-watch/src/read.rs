//! Reads of whole files that wait for a writer to finish.

use crate::debounce::{QUIET_PERIOD, RECHECK_INTERVAL};
#[cfg(unix)]
use rustix::fs::OFlags;
use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    path::Path,
    time::SystemTime,
};

/// Maximum number of repeated reads of a file that keeps changing.
const MAX_REREADS: usize = 20;

/// Reason why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file does not exist.
    #[error("no such file")]
    NotFound,
    /// The file is larger than the limit of the caller.
    #[error("`{path}` is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Path of the file.
        path: String,
        /// Limit in bytes.
        limit: u64,
    },
    /// Any other I/O error.
    #[error("cannot read `{path}`: {error}")]
    Failed {
        /// Path of the file.
        path: String,
        /// Cause.
        error: io::Error,
    },
}

/// Reads a whole file.
///
/// `complete` states that the last writer has finished. Otherwise, a recently modified file is read
/// until two reads agree, at most [`MAX_REREADS`] times.
pub(crate) fn read(path: &Path, limit: u64, complete: bool) -> Result<Vec<u8>, ReadError> {
    let (mut content, metadata) = read_once(path, limit)?;
    if complete || !is_recently_modified(&metadata) {
        return Ok(content);
    }
    for _ in 0..MAX_REREADS {
        std::thread::sleep(RECHECK_INTERVAL);
        let (reread, _) = read_once(path, limit)?;
        if std::mem::replace(&mut content, reread) == content {
            break;
        }
    }
    Ok(content)
}

fn read_once(path: &Path, limit: u64) -> Result<(Vec<u8>, Metadata), ReadError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::NotFound,
        _ => ReadError::Failed { path: path.display().to_string(), error },
    };
    let file = open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a directory" } else { "not a regular file" };
        return Err(failed(io::Error::other(format!("it is {kind}"))));
    }
    let mut content = Vec::with_capacity(metadata.len().min(limit) as usize + 1);
    file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > limit {
        return Err(ReadError::TooLarge { path: path.display().to_string(), limit });
    }
    Ok((content, metadata))
}

/// Flags that open a path safely before its type is known: a named pipe does not block, and a
/// terminal does not become the controlling one.
#[cfg(unix)]
pub(crate) const READ_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Opens a file for reading. Does not block on a named pipe that has no writer.
///
/// # Errors
///
/// Returns the error of `open(2)`.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(READ_FLAGS.bits() as i32);
    }
    options.open(path)
}

/// Returns whether the file was modified within the quiet period, so that its writer may still be
/// active. An unknown or future modification time counts as recent.
pub(crate) fn is_recently_modified(metadata: &Metadata) -> bool {
    metadata
        .modified()
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok())
        .is_none_or(|age| age < QUIET_PERIOD)
}

/// Reads a regular file of at most `max_bytes`, without blocking on a named pipe.
///
/// # Errors
///
/// Those of `open(2)` and `read(2)`, and files that are not regular or larger.
pub fn read_regular_file(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::other(format!("larger than {max_bytes} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_a_read_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = read(directory.path(), 10, true).unwrap_err().to_string();
        assert!(error.ends_with("it is a directory"), "{error}");
        let missing = read(&directory.path().join("x/y"), 10, true);
        assert!(matches!(missing, Err(ReadError::NotFound)));
    }

    #[test]
    fn size_limit_is_inclusive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10, true).unwrap(), b"0123456789");
        assert!(matches!(read(&path, 9, true), Err(ReadError::TooLarge { limit: 9, .. })));
        assert_eq!(read(&path, u64::MAX, true).unwrap(), b"0123456789", "effectively unlimited");
    }
}

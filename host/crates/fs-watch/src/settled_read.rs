//! Settled reads: repeats the read of a whole file until its content no longer changes, in case a
//! writer is still active.

use crate::{
    regular_file::{open, read_at_most},
    settle::{RECHECK_INTERVAL, is_recently_modified},
};
use std::{fs::Metadata, io, path::Path};

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
        /// Maximum size that the caller accepts, in bytes.
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
pub(crate) fn read_settled(path: &Path, limit: u64, complete: bool) -> Result<Vec<u8>, ReadError> {
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
    match read_at_most(&file, limit).map_err(failed)? {
        Some(content) => Ok((content, metadata)),
        None => Err(ReadError::TooLarge { path: path.display().to_string(), limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_a_read_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = read_settled(directory.path(), 10, true).unwrap_err().to_string();
        assert!(error.ends_with("it is a directory"), "{error}");
        let missing = read_settled(&directory.path().join("x/y"), 10, true);
        assert!(matches!(missing, Err(ReadError::NotFound)));
    }

    #[test]
    fn size_limit_is_inclusive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read_settled(&path, 10, true).unwrap(), b"0123456789");
        assert!(matches!(read_settled(&path, 9, true), Err(ReadError::TooLarge { limit: 9, .. })));
        assert_eq!(
            read_settled(&path, u64::MAX, true).unwrap(),
            b"0123456789",
            "effectively unlimited"
        );
    }
}

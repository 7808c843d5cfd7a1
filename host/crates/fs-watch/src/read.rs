//! Reading a file as a whole, and not while it is half written.

use crate::debounce::{PAUSE, RECENT};
#[cfg(unix)]
use rustix::fs::OFlags;
use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    path::Path,
    time::SystemTime,
};

/// How often a file that keeps changing is read before the last read is taken as it is.
const READS: usize = 20;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such file now.
    #[error("no such file")]
    NotFound,
    /// It is larger than allowed.
    #[error("`{path}` is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The file.
        path: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Anything else.
    #[error("cannot read `{path}`: {error}")]
    Failed {
        /// The file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
}

/// Reads a whole file. Unless `complete` (its last writer is known to be done), a file that was just
/// written to is read until two reads agree.
pub(crate) fn read(path: &Path, limit: u64, complete: bool) -> Result<Vec<u8>, ReadError> {
    let (mut content, metadata) = read_once(path, limit)?;
    if complete || !is_recent(&metadata) {
        return Ok(content);
    }
    for _ in 0..READS {
        std::thread::sleep(PAUSE);
        let (again, _) = read_once(path, limit)?;
        if std::mem::replace(&mut content, again) == content {
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
        let what = if metadata.is_dir() { "a directory" } else { "not a regular file" };
        return Err(failed(io::Error::other(format!("it is {what}"))));
    }
    let mut content = Vec::with_capacity(metadata.len().min(limit) as usize + 1);
    file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > limit {
        return Err(ReadError::TooLarge { path: path.display().to_string(), limit });
    }
    Ok((content, metadata))
}

/// How a file is opened that may turn out to be none.
#[cfg(unix)]
pub(crate) const READ_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Opens a file for reading, without blocking on a named pipe that has no writer.
///
/// # Errors
///
/// Those of `open(2)`.
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

pub(crate) fn is_recent(metadata: &Metadata) -> bool {
    metadata
        .modified()
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok())
        .is_none_or(|age| age < RECENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_file_is_named_for_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let error = read(directory.path(), 10, true).unwrap_err().to_string();
        assert!(error.ends_with("it is a directory"), "{error}");
        let missing = read(&directory.path().join("x/y"), 10, true);
        assert!(matches!(missing, Err(ReadError::NotFound)));
    }

    #[test]
    fn the_limit_is_exact() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10, true).unwrap(), b"0123456789");
        assert!(matches!(read(&path, 9, true), Err(ReadError::TooLarge { limit: 9, .. })));
        assert_eq!(read(&path, u64::MAX, true).unwrap(), b"0123456789", "as good as none");
    }
}

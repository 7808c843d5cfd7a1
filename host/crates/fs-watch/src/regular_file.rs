//! Opens and reads regular files of a bounded size, without blocking on a named pipe.

#[cfg(unix)]
use rustix::fs::OFlags;
use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    path::Path,
};

/// Flags that open a path safely before its type is known: opening a named pipe does not block, and
/// opening a terminal does not make it the controlling terminal of the host.
#[cfg(unix)]
pub(crate) const READ_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Reason why a regular file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RegularFileError {
    /// The path names a directory, a named pipe, a socket or a device.
    #[error("not a regular file")]
    NotRegular,
    /// The file is larger than the limit of the caller.
    #[error("larger than {max_bytes} bytes")]
    TooLarge {
        /// Maximum size of the file, in bytes.
        max_bytes: u64,
    },
    /// Error of `open(2)` or `read(2)`.
    #[error(transparent)]
    Io(#[from] io::Error),
}

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

/// Opens a file for reading as [`open`] does. On Unix, fails if the path names a symbolic link. Other systems follow
/// the link.
///
/// # Errors
///
/// Returns the error of `open(2)`: `ELOOP` for a symbolic link.
pub fn open_without_following_link(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(READ_FLAGS.union(OFlags::NOFOLLOW).bits() as i32);
    }
    options.open(path)
}

/// Reads a regular file of at most `max_bytes`, without blocking on a named pipe.
///
/// # Errors
///
/// Returns a [`RegularFileError`] if the file cannot be read, is not regular or is larger.
pub fn read_regular_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>, RegularFileError> {
    let file = open(path)?;
    if !file.metadata()?.is_file() {
        return Err(RegularFileError::NotRegular);
    }
    read_at_most(&file, max_bytes)?.ok_or(RegularFileError::TooLarge { max_bytes })
}

/// Reads a file to its end. Returns `None` if it has more than `max_bytes`.
pub(crate) fn read_at_most(file: &File, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let expected = file.metadata()?.len().min(max_bytes);
    let mut bytes = Vec::with_capacity(expected as usize + 1);
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max_bytes).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn size_limit_of_regular_file_is_inclusive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read_regular_file(&path, 10).unwrap(), b"0123456789");
        let error = read_regular_file(&path, 9).unwrap_err();
        assert_eq!(error.to_string(), "larger than 9 bytes");
    }

    #[test]
    fn other_file_types_are_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let error = read_regular_file(directory.path(), 10).unwrap_err();
        assert!(matches!(error, RegularFileError::NotRegular), "{error}");
        let missing = read_regular_file(&directory.path().join("f"), 10).unwrap_err();
        assert!(matches!(missing, RegularFileError::Io(_)), "{missing}");
    }
}

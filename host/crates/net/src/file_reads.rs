//! Reads of files that the operator names: secrets, certificates and keys, with a deadline.

use reloader_fs_watch::{RegularFileError, access_within_blocking, read_regular_file};
use std::{io, path::Path, time::Duration};

/// Time limit of a read. Shorter than the default timeouts of the callers, so that the callers report this error, which
/// names the file.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a regular file of at most `max_bytes`. Blocks for five seconds at most.
///
/// # Errors
///
/// Returns a [`RegularFileError`]: an I/O error of the kind `TimedOut` if the file is not read in time.
pub fn read_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>, RegularFileError> {
    let file = path.to_owned();
    let read = move || read_regular_file(&file, max_bytes);
    access_within_blocking(path, READ_TIMEOUT, read).map_err(io::Error::from)?
}

/// Calls `read`, which reads files at or below `path`, on another thread. Blocks for five seconds at most.
///
/// # Errors
///
/// Returns an error of the kind `TimedOut` if the read does not return in time.
#[cfg(any(feature = "egress", feature = "host-client"))]
pub(crate) fn read_below<T: Send + 'static>(
    path: &Path,
    read: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    Ok(access_within_blocking(path, READ_TIMEOUT, read)?)
}

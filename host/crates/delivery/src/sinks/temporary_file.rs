//! Temporary files beside a written file, and the removal of those that a killed host has left.

use super::{file_attributes::PRIVATE_MODE, path_resolution::directory_of};
use reloader_fs_watch::open_without_following_link;
use reloader_util::digest::Digest;
use rustix::fs::{FlockOperation, flock};
use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use tempfile::NamedTempFile;

/// Prefix of the names of the temporary files that are written and then renamed to the target.
const TEMPORARY_PREFIX: &str = ".reloader-";
/// Number of hexadecimal digits of the target's name digest in the name of a temporary file.
const TEMPORARY_DIGEST_DIGITS: usize = 12;

/// Returns the name prefix of the temporary files for `path`. It contains a hash instead of the
/// file name, which may already have the maximum length.
fn temporary_prefix(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default();
    let digest = Digest::of(name.as_encoded_bytes()).to_string();
    format!("{TEMPORARY_PREFIX}{}-", &digest[..TEMPORARY_DIGEST_DIGITS]).into()
}

/// Creates a private temporary file for `path`. An error does not contain the random name of this file, so that
/// repeated failures have equal messages.
///
/// The file is locked. A temporary file without a lock is a leftover of a host that was killed.
pub(super) fn temporary(path: &Path, directory: &Path) -> io::Result<NamedTempFile> {
    let prefix = temporary_prefix(path);
    let create = |path: &Path| {
        OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE_MODE).open(path)
    };
    // `Builder::tempfile_in` would add the path to the error.
    let file = tempfile::Builder::new().prefix(&prefix).rand_bytes(8).make_in(directory, create)?;
    // The error is ignored: on a file system without locks, `remove_stale_temporaries` removes nothing.
    let _ = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
    Ok(file)
}

/// Removes the temporary files that a killed host has left for `path`.
pub(super) fn remove_stale_temporaries(path: &Path) {
    let prefix = temporary_prefix(path);
    let Ok(entries) = fs::read_dir(directory_of(path)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let has_prefix = name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        if !has_prefix || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = open_without_following_link(&entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// Only unlocked temporary files of the same target are removed.
    #[test]
    fn stale_temporary_files_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app");
        let temporary = |target: &str, suffix: &str| {
            let mut name = temporary_prefix(&directory.path().join(target));
            name.push(suffix);
            directory.path().join(name)
        };
        let stale = temporary("app", "stale");
        let locked = temporary("app", "locked");
        let unrelated = temporary("b", "stale");
        for file in [&stale, &locked, &unrelated] {
            fs::write(file, "half").unwrap();
        }
        let lock = File::open(&locked).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        remove_stale_temporaries(&path);
        assert_eq!((stale.exists(), locked.exists(), unrelated.exists()), (false, true, true));
    }
}

//! Private temporary directory with the input files of a command, removed when the command has ended.

use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Once,
};
use tempfile::TempDir;

/// Name prefix of the directories. The prefix identifies directories that a killed host has left.
const DIRECTORY_PREFIX: &str = "reloader-stage-";

/// A directory with mode 0700 that contains files with mode 0600.
#[derive(Debug)]
pub(super) struct PrivateTempDir {
    directory: TempDir,
    /// Lock on the directory. An unlocked directory was left by a killed host.
    _lock: File,
}

impl PrivateTempDir {
    /// Creates a directory with these files. The first call in a process removes directories that killed hosts
    /// have left.
    pub(super) fn new(files: &[(String, bytes::Bytes)]) -> io::Result<Self> {
        static CLEANED_UP: Once = Once::new();
        let parent = std::env::temp_dir();
        CLEANED_UP.call_once(|| remove_stale_directories(&parent));
        let directory = tempfile::Builder::new()
            .prefix(DIRECTORY_PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)?;
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        for (name, content) in files {
            let mut options = OpenOptions::new();
            let path = directory.path().join(name);
            options.write(true).create_new(true).mode(0o600).open(path)?.write_all(content)?;
        }
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Removes the unlocked directories that killed hosts of this user have left in `parent`.
fn remove_stale_directories(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let user = rustix::process::geteuid().as_raw();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().map(|name| name.to_string_lossy());
        let has_prefix = name.is_some_and(|name| name.starts_with(DIRECTORY_PREFIX));
        let is_owned =
            || fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir() && it.uid() == user);
        if !has_prefix || !is_owned() {
            continue;
        }
        let Ok(lock) = File::open(&path) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn directory_is_private_and_removed_on_drop() {
        let files = [("value".into(), Bytes::from_static(b"secret"))];
        let directory = PrivateTempDir::new(&files).unwrap();
        let path = directory.file("value");
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(directory.path()), mode(&path)), (0o700, 0o600));
        drop(directory);
        assert!(!path.exists());
    }

    /// Only unlocked directories with the prefix are removed.
    #[test]
    fn stale_directories_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let stale = parent.path().join(format!("{DIRECTORY_PREFIX}stale"));
        let locked = parent.path().join(format!("{DIRECTORY_PREFIX}locked"));
        let unrelated = parent.path().join("unrelated");
        for path in [&stale, &locked, &unrelated] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("value"), "secret").unwrap();
        }
        let lock = File::open(&locked).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        remove_stale_directories(parent.path());
        assert_eq!((stale.exists(), locked.exists(), unrelated.exists()), (false, true, true));
    }
}

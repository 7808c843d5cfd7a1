//! Values as files, for a command that wants to read files: private, and gone when it has ended.

use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Once,
};
use tempfile::TempDir;

/// How the directories are named. What is left of a host that was killed is known by it.
const PREFIX: &str = "reloader-stage-";

/// A directory that only this user can enter, with files that only this user can read.
#[derive(Debug)]
pub(super) struct Staged {
    directory: TempDir,
    /// Locked for as long as the host lives.
    _lock: File,
}

impl Staged {
    /// Writes these files.
    pub(super) fn new(files: &[(String, bytes::Bytes)]) -> io::Result<Self> {
        static SWEPT: Once = Once::new();
        let place = std::env::temp_dir();
        SWEPT.call_once(|| sweep(&place));
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&place)?;
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        for (name, content) in files {
            let mut options = OpenOptions::new();
            let path = directory.path().join(name);
            options.write(true).create_new(true).mode(0o600).open(path)?.write_all(content)?;
        }
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Removes what hosts that were killed have left: what nobody holds locked.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    let me = rustix::process::geteuid().as_raw();
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let is_mine = || fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir() && it.uid() == me);
        if !ours || !is_mine() {
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
    fn only_this_user_can_read_what_is_staged_and_afterwards_it_is_gone() {
        let staged = Staged::new(&[("value".into(), Bytes::from_static(b"secret"))]).unwrap();
        let path = staged.file("value");
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(staged.directory()), mode(&path)), (0o700, 0o600));
        drop(staged);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_host_has_left_is_removed_and_what_is_in_use_is_not() {
        let place = tempfile::tempdir().unwrap();
        let left = place.path().join(format!("{PREFIX}left"));
        let used = place.path().join(format!("{PREFIX}used"));
        let others = place.path().join("others");
        for path in [&left, &used, &others] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("value"), "secret").unwrap();
        }
        let lock = File::open(&used).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        sweep(place.path());
        assert_eq!((left.exists(), used.exists(), others.exists()), (false, true, true));
    }
}

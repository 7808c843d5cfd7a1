//! Fingerprint of a file: detects a changed file by its metadata, without reading the content.

use std::{
    fs::{self, Metadata},
    path::Path,
};

/// Metadata that differs between two versions of a file: identity, size, times and mode.
///
/// If a file is written twice within the granularity of its timestamps and keeps its size, its
/// fingerprint is the same after both writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFingerprint {
    identity: FileIdentity,
    bytes: u64,
    modified: Timestamp,
    /// Change time (`ctime`), which also changes with the attributes of the file.
    changed: Timestamp,
    mode: u32,
}

/// Device and inode number. On systems without inodes, the creation time identifies a file.
pub(crate) type FileIdentity = (u64, u64);

/// Modification or status change time of a file, in seconds and nanoseconds.
type Timestamp = (i64, i64);

impl FileFingerprint {
    /// Reads the fingerprint of the file that `path` resolves to. Returns `None` if no such file
    /// exists.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::from_metadata(&metadata))
    }

    /// Returns the fingerprint of a file with this metadata.
    #[must_use]
    pub fn from_metadata(metadata: &Metadata) -> Self {
        let (modified, changed) = timestamps(metadata);
        Self {
            identity: identity(metadata),
            bytes: metadata.len(),
            modified,
            changed,
            mode: mode(metadata),
        }
    }

    /// Reads the fingerprint of the file at `path` from the caches of the kernel, on the calling thread.
    ///
    /// Returns `None` if there is no file, or if the kernel would have to wait for the file system. Costs less than
    /// a tenth of the CPU time of a read on another thread.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn read_cached(path: &Path) -> Option<Self> {
        use rustix::fs::{
            AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, makedev, openat2, statx,
        };
        // `RESOLVE_CACHED` fails unless all directory entries of the path are in the kernel's cache.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()?;
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = statx(file, c"", flags, StatxFlags::BASIC_STATS).ok()?;
        let has_all = StatxFlags::BASIC_STATS.difference(StatxFlags::ATIME);
        if !StatxFlags::from_bits_retain(found.stx_mask).contains(has_all) {
            return None;
        }
        Some(Self {
            identity: (makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino),
            bytes: found.stx_size,
            modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec.into()),
            changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec.into()),
            mode: found.stx_mode.into(),
        })
    }

    /// Returns `None`: only Linux supports reads from the caches of the kernel alone.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn read_cached(_: &Path) -> Option<Self> {
        None
    }
}

/// Returns the device and inode number of a file.
#[cfg(unix)]
pub(crate) fn identity(metadata: &Metadata) -> FileIdentity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
pub(crate) fn identity(metadata: &Metadata) -> FileIdentity {
    let (seconds, nanoseconds) = timestamp(metadata.created());
    (seconds as u64, nanoseconds as u64)
}

/// Returns the modification time and the change time.
#[cfg(unix)]
fn timestamps(metadata: &Metadata) -> (Timestamp, Timestamp) {
    use std::os::unix::fs::MetadataExt;
    ((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn timestamps(metadata: &Metadata) -> (Timestamp, Timestamp) {
    (timestamp(metadata.modified()), Timestamp::default())
}

#[cfg(not(unix))]
fn timestamp(time: std::io::Result<std::time::SystemTime>) -> Timestamp {
    let age = time.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    age.map_or_else(Timestamp::default, |age| (age.as_secs() as i64, age.subsec_nanos().into()))
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata)
}

#[cfg(not(unix))]
fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().readonly().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[cfg(target_os = "linux")]
    #[test]
    fn cached_fingerprint_equals_that_of_metadata() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "a").unwrap();
        // Some kernels do not support lookups in the cache only.
        let Some(first) = FileFingerprint::read_cached(&path) else { return };
        assert_eq!(first, FileFingerprint::from_metadata(&fs::metadata(&path).unwrap()));
        fs::write(&path, "bc").unwrap();
        assert_ne!(FileFingerprint::read_cached(&path), Some(first));
        fs::remove_file(&path).unwrap();
        assert_eq!(FileFingerprint::read_cached(&path), None);
    }

    #[test]
    fn new_version_has_another_fingerprint() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        assert_eq!(FileFingerprint::read(&path), None);
        fs::write(&path, "a").unwrap();
        let first = FileFingerprint::read(&path);
        assert_eq!(FileFingerprint::read(&path), first);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        let second = FileFingerprint::read(&path);
        assert_ne!(first, second);
        let new = directory.path().join("new");
        fs::write(&new, "b").unwrap();
        fs::rename(new, &path).unwrap();
        assert_ne!(FileFingerprint::read(&path), second);
    }
}

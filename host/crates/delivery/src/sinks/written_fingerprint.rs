//! Fingerprint of a written file, and its comparison with the present file without waiting for a disk or a server.

use std::{fs::Metadata, os::unix::fs::MetadataExt, path::Path};

/// Metadata of a written file: it differs after each change by another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrittenFingerprint {
    device: u64,
    inode: u64,
    mode: u32,
    bytes: u64,
    modified: Timestamp,
    /// Change time: also changes with the attributes of the file.
    changed: Timestamp,
}

/// Seconds and nanoseconds.
type Timestamp = (i64, i64);

impl From<&Metadata> for WrittenFingerprint {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl WrittenFingerprint {
    /// Reads the fingerprint of the file at `path` from the caches of the kernel, on the calling thread.
    ///
    /// Returns `None` if there is no file, or if the kernel would have to wait for the file system. A thread
    /// switch would cost more than ten times as much CPU time.
    #[cfg(target_os = "linux")]
    pub(super) fn read_cached(path: &Path) -> Option<Self> {
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
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            mode: found.stx_mode.into(),
            bytes: found.stx_size,
            modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec.into()),
            changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec.into()),
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn read_cached(_: &Path) -> Option<Self> {
        None
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn cached_fingerprint_equals_that_of_metadata() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "a").unwrap();
        // Some kernels support no lookup in the cache only.
        let Some(first) = WrittenFingerprint::read_cached(&path) else { return };
        assert_eq!(first, WrittenFingerprint::from(&fs::metadata(&path).unwrap()));
        fs::write(&path, "bc").unwrap();
        assert_ne!(WrittenFingerprint::read_cached(&path), Some(first));
        fs::remove_file(&path).unwrap();
        assert_eq!(WrittenFingerprint::read_cached(&path), None);
    }
}

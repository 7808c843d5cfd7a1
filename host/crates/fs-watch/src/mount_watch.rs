//! Mount events from `/proc/self/mountinfo`.
//!
//! A mount hides the files below its mount point. Inotify does not report mounts.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
};

/// Mount table of the process.
///
/// The kernel sets `POLLPRI` on the open file after a change of the table.
#[derive(Debug)]
pub(crate) struct MountTable {
    file: File,
    /// Lines of the table at the last read.
    last_lines: HashSet<Vec<u8>>,
}

impl MountTable {
    pub(crate) fn open() -> io::Result<Self> {
        let mut mounts =
            Self { file: File::open("/proc/self/mountinfo")?, last_lines: HashSet::default() };
        mounts.last_lines = mounts.read()?;
        Ok(mounts)
    }

    /// Returns the mount points whose mounts have been added, removed or changed since the last
    /// call. Returns the root directory if the table cannot be read.
    pub(crate) fn take_changes(&mut self) -> HashSet<PathBuf> {
        match self.read() {
            Ok(lines) => {
                let changed = lines
                    .symmetric_difference(&self.last_lines)
                    .filter_map(|line| mount_point(line));
                let changed = changed.collect();
                self.last_lines = lines;
                changed
            }
            Err(error) => {
                tracing::debug!(%error, "mount table read failed, checking the mount of every watched path");
                HashSet::from([PathBuf::from("/")])
            }
        }
    }

    /// Duplicates the descriptor of the table, for registration with an async runtime.
    pub(crate) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }

    fn read(&mut self) -> io::Result<HashSet<Vec<u8>>> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        Ok(text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect())
    }
}

impl AsFd for MountTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Types of file systems on local disks and in memory, as in the mount table. Reading the metadata of their files does
/// not wait for another machine or process.
const LOCAL_TYPES: [&[u8]; 13] = [
    b"bcachefs",
    b"btrfs",
    b"devtmpfs",
    b"erofs",
    b"ext2",
    b"ext3",
    b"ext4",
    b"f2fs",
    b"overlay",
    b"squashfs",
    b"tmpfs",
    b"xfs",
    b"zfs",
];

/// Mount of a file system, as listed in `/proc/self/mountinfo`.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    /// `true` for the types in [`LOCAL_TYPES`].
    pub(crate) is_local: bool,
}

/// Returns all mounts.
pub(crate) fn mounts() -> io::Result<Vec<Mount>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mount = |line: &[u8]| {
        // The type follows the separator of the optional fields.
        let mut fields = line.split(|&byte| byte == b' ').skip_while(|field| *field != b"-");
        let is_local = fields.nth(1).is_some_and(|kind| LOCAL_TYPES.contains(&kind));
        Some(Mount { point: mount_point(line)?, is_local })
    };
    Ok(table.split(|&byte| byte == b'\n').filter_map(mount).collect())
}

/// Returns the mount point in a line of the table: the fifth field, with octal escapes such as
/// `\040` for a space decoded.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|&byte| byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| after.get(..3)).flatten();
        let decoded = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[3..] } else { after };
    }
    Some(PathBuf::from(OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_point_escapes_are_decoded() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402/a\134b rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from(r"/mnt 2/a\b")));
        assert_eq!(mount_point(b""), None);
    }

    #[test]
    fn removed_mount_is_a_change() {
        let mut mounts = MountTable::open().unwrap();
        assert!(mounts.last_lines.len() > 1);
        mounts.last_lines.insert(b"1 2 0:1 / /gone rw - tmpfs none rw".to_vec());
        assert!(mounts.take_changes().contains(&PathBuf::from("/gone")));
    }
}

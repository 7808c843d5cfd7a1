//! Reads of small files from the page cache, on the calling thread and without blocking.
//!
//! A switch to a blocking thread and back takes longer than all other steps between a change of a
//! file and the new value. With the flags `RESOLVE_CACHED` and `RWF_NOWAIT`, the kernel uses only
//! its caches, and returns an error instead of waiting for a disk or a server. After such an error,
//! the caller reads the file on a blocking thread.

use crate::{
    filesystem_kind::FilesystemKind,
    regular_file::{READ_FLAGS, read_at_most},
    settle::is_recently_modified,
    symlink_chain::Device,
};
use rustix::{
    fs::{CWD, Mode, ResolveFlags, openat2},
    io::{Errno, ReadWriteFlags, preadv2},
};
use std::{fs::File, io::IoSliceMut, os::unix::fs::MetadataExt, path::Path};

/// Maximum size of a file that is read on an async thread.
const MAX_INLINE_READ_BYTES: u64 = 64 * 1024;

/// Reads a whole file if that is possible without waiting for a disk, a server or a writer.
///
/// `complete` states that the last writer has finished. `device` is the device of the file at the
/// last resolution of its path. A file on another device is not read, because a read from that
/// device might block.
pub(crate) fn read_from_page_cache(
    path: &Path,
    limit: u64,
    complete: bool,
    device: Device,
) -> Option<Vec<u8>> {
    if device.kind > FilesystemKind::Local {
        return None;
    }
    // `RESOLVE_CACHED` fails unless all directory entries of the path are in the kernel's cache.
    let file = openat2(CWD, path, READ_FLAGS, Mode::empty(), ResolveFlags::CACHED).ok()?;
    let file = File::from(file);
    let metadata = file.metadata().ok()?;
    let is_on_device = metadata.is_file() && metadata.dev() == device.number;
    let max_bytes = MAX_INLINE_READ_BYTES.min(limit);
    let is_small = metadata.len() <= max_bytes;
    if !is_on_device || !is_small || (!complete && is_recently_modified(&metadata)) {
        return None;
    }
    let content = match read_cached_pages(&file, metadata.len()) {
        // Some file systems in memory do not support `RWF_NOWAIT`. A plain read from memory does not
        // block.
        Err(Errno::OPNOTSUPP) if device.kind == FilesystemKind::Memory => {
            read_at_most(&file, max_bytes).ok()??
        }
        content => content.ok()?,
    };
    (content.len() as u64 <= max_bytes).then_some(content)
}

/// Reads `file` from the page cache, to its end or until the size limit is exceeded. `expected` is
/// the size in the metadata of the file.
fn read_cached_pages(file: &File, expected: u64) -> rustix::io::Result<Vec<u8>> {
    let mut content = vec![0; expected as usize + 1];
    let mut length = 0;
    loop {
        let buffer = &mut [IoSliceMut::new(&mut content[length..])];
        match preadv2(file, buffer, length as u64, ReadWriteFlags::NOWAIT)? {
            0 => break,
            read => length += read,
        }
        // A short read can end at the last cached page, before the end of the file. At the expected
        // length, the end of the file is reached.
        if length == expected as usize {
            break;
        }
        if length == content.len() {
            if length as u64 > MAX_INLINE_READ_BYTES {
                break;
            }
            content.resize(2 * length, 0);
        }
    }
    content.truncate(length);
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symlink_chain::resolve;
    use std::{fs, time::SystemTime};

    fn device(path: &Path) -> Device {
        resolve(path).device.unwrap()
    }

    #[test]
    fn small_cached_file_is_read_inline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "0123456789").unwrap();
        let device = device(&path);
        let read = |limit, complete| read_from_page_cache(&path, limit, complete, device);
        // Non-blocking reads are not available on all kernels and file systems.
        let Some(content) = read(10, true) else { return };
        assert_eq!(content, b"0123456789");
        assert_eq!(read(9, true), None);
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
        assert_eq!(read(10, false), None);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(read(10, false).unwrap(), b"0123456789");
        fs::write(&path, vec![0; MAX_INLINE_READ_BYTES as usize + 1]).unwrap();
        assert_eq!(read(1 << 20, true), None);
    }

    #[test]
    fn other_device_or_type_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let device = device(&path);
        let other_device = Device { number: device.number + 1, ..device };
        let remote = Device { kind: FilesystemKind::Remote, ..device };
        assert_eq!(read_from_page_cache(&path, 10, true, other_device), None);
        assert_eq!(read_from_page_cache(&path, 10, true, remote), None);
        assert_eq!(read_from_page_cache(directory.path(), 1 << 20, true, device), None);
        assert_eq!(read_from_page_cache(&directory.path().join("g"), 10, true, device), None);
    }
}

//! Reading a small file without another thread, when that is certain not to wait.
//!
//! Going to another thread and back takes longer than all else between a change and its value. So the
//! kernel is asked for what it has in memory, and refuses rather than wait for a disk or a server.
//! Whatever is out of the ordinary is left to the other thread.

use crate::{
    filesystem_kind::Ground,
    read::{READ_FLAGS, is_recent},
    symlink_chain::Device,
};
use rustix::{
    fs::{CWD, Mode, ResolveFlags, openat2},
    io::{Errno, ReadWriteFlags, preadv2},
};
use std::{
    fs::File,
    io::{IoSliceMut, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// A larger file is not worth the time of an async thread.
const SMALL: u64 = 64 * 1024;

/// The whole file, if that takes no waiting: neither for a disk, nor for a server, nor for a writer
/// (`complete`: there is none). `device`: where the file was; opening it elsewhere might wait.
pub(crate) fn read_at_once(
    path: &Path,
    limit: u64,
    complete: bool,
    device: Device,
) -> Option<Vec<u8>> {
    if device.ground > Ground::Told {
        return None;
    }
    // Only if all on the way is known already; and not even a named pipe is waited for.
    let file = openat2(CWD, path, READ_FLAGS, Mode::empty(), ResolveFlags::CACHED).ok()?;
    let file = File::from(file);
    let metadata = file.metadata().ok()?;
    let is_here = metadata.is_file() && metadata.dev() == device.number;
    let is_small = metadata.len() <= SMALL.min(limit);
    if !is_here || !is_small || (!complete && is_recent(&metadata)) {
        return None;
    }
    let content = match read(&file, metadata.len()) {
        // It is in memory anyway, and this file system does not know how to refuse.
        Err(Errno::OPNOTSUPP) if device.ground == Ground::Memory => {
            let mut content = Vec::with_capacity(metadata.len() as usize + 1);
            file.take(SMALL + 1).read_to_end(&mut content).ok()?;
            content
        }
        content => content.ok()?,
    };
    (content.len() as u64 <= SMALL.min(limit)).then_some(content)
}

/// What is in memory, to the end or a little more than is small.
fn read(file: &File, expected: u64) -> rustix::io::Result<Vec<u8>> {
    let mut content = vec![0; expected as usize + 1];
    let mut length = 0;
    loop {
        let room = &mut [IoSliceMut::new(&mut content[length..])];
        match preadv2(file, room, length as u64, ReadWriteFlags::NOWAIT)? {
            0 => break,
            read => length += read,
        }
        // Less than there was room for may be all that is in memory; as much as expected is the end.
        if length == expected as usize {
            break;
        }
        if length == content.len() {
            if length as u64 > SMALL {
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
    use crate::symlink_chain::chain;
    use std::{fs, time::SystemTime};

    fn device(path: &Path) -> Device {
        chain(path).device.unwrap()
    }

    #[test]
    fn a_small_file_in_memory_is_read_at_once_if_nobody_may_be_writing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "0123456789").unwrap();
        let device = device(&path);
        let read = |limit, complete| read_at_once(&path, limit, complete, device);
        // Not every kernel and file system can: then it is never read so.
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
        fs::write(&path, vec![0; SMALL as usize + 1]).unwrap();
        assert_eq!(read(1 << 20, true), None);
    }

    #[test]
    fn what_is_elsewhere_or_no_file_is_left_to_another_thread() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let here = device(&path);
        let elsewhere = Device { number: here.number + 1, ..here };
        let remote = Device { ground: Ground::Remote, ..here };
        assert_eq!(read_at_once(&path, 10, true, elsewhere), None);
        assert_eq!(read_at_once(&path, 10, true, remote), None);
        assert_eq!(read_at_once(directory.path(), 1 << 20, true, here), None);
        assert_eq!(read_at_once(&directory.path().join("g"), 10, true, here), None);
    }
}

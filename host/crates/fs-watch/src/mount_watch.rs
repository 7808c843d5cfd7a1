//! Which file systems are mounted where. A mount hides what was there, and nothing else tells of it.

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

/// The list of mounts. In `poll`, the kernel says `POLLPRI` when it has changed since it was opened.
#[derive(Debug)]
pub(crate) struct Mounts {
    list: File,
    /// Its lines when it was last read.
    known: HashSet<Vec<u8>>,
}

impl Mounts {
    pub(crate) fn open() -> io::Result<Self> {
        let mut mounts =
            Self { list: File::open("/proc/self/mountinfo")?, known: HashSet::default() };
        mounts.known = mounts.read()?;
        Ok(mounts)
    }

    /// Where something has been mounted, unmounted or moved since the last call. The root if that
    /// cannot be told.
    pub(crate) fn changed(&mut self) -> HashSet<PathBuf> {
        match self.read() {
            Ok(now) => {
                let changed = now.symmetric_difference(&self.known).filter_map(|line| place(line));
                let changed = changed.collect();
                self.known = now;
                changed
            }
            Err(error) => {
                tracing::debug!("cannot read the list of mounts: {error}");
                HashSet::from([PathBuf::from("/")])
            }
        }
    }

    /// The list, to wait for it in another way.
    pub(crate) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.list.try_clone().map(OwnedFd::from)
    }

    fn read(&mut self) -> io::Result<HashSet<Vec<u8>>> {
        let mut text = Vec::new();
        self.list.rewind()?;
        self.list.read_to_end(&mut text)?;
        Ok(text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect())
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.list.as_fd()
    }
}

/// The fifth field of a line: where it is mounted. Blanks and the like stand as `\040`.
fn place(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|&byte| byte == b' ').nth(4)?;
    let mut place = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| after.get(..3)).flatten();
        let decoded = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        place.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[3..] } else { after };
    }
    Some(PathBuf::from(OsString::from_vec(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_something_is_mounted() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402/a\134b rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(place(line), Some(PathBuf::from(r"/mnt 2/a\b")));
        assert_eq!(place(b""), None);
    }

    #[test]
    fn what_has_not_changed_is_not_named() {
        let mut mounts = Mounts::open().unwrap();
        assert!(mounts.known.len() > 1);
        mounts.known.insert(b"1 2 0:1 / /gone rw - tmpfs none rw".to_vec());
        assert!(mounts.changed().contains(&PathBuf::from("/gone")));
    }
}

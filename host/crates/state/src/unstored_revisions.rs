//! Unstored revisions: the last revision of each source that was published although it could not be stored.
//!
//! Revisions must not decrease after a restart, even if the host is killed while the disk is full. The database cannot
//! store a new revision on a full disk, but a file whose blocks are allocated can be overwritten in place. The file
//! contains two copies of the revisions. Each write overwrites the older copy, so a crash during a write leaves the
//! newer copy undamaged. A copy consists of its sequence number and the length of its content (8 bytes each, little
//! endian), the SHA-256 digest of these two numbers and the content, and the content: a JSON object that maps source
//! names to revisions.

use crate::{error::OpenError, state_dir::StateDir};
use reloader_util::digest::Digest;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

/// Name of the file in the state directory.
const FILE_NAME: &str = "unstored-revisions";
/// Size of the header of a copy, in bytes: sequence number, length of the content, and digest.
const HEADER_BYTES: usize = 48;
/// Minimum space in the file for a copy, in bytes.
const MIN_COPY_BYTES: u64 = 4096;

/// Last unstored revision of each source, in memory and in the file.
#[derive(Debug, Default)]
pub(crate) struct UnstoredRevisions {
    /// File; `None` if it could not be created.
    file: Option<File>,
    /// Space in the file for each copy, in bytes.
    copy_bytes: u64,
    /// Sequence number of the newest copy in the file.
    sequence: u64,
    revisions: BTreeMap<String, u64>,
}

impl UnstoredRevisions {
    /// Reads the file, or creates it. If the file cannot be created, the revisions are kept in memory only.
    pub(crate) fn open(directory: &StateDir) -> Result<Self, OpenError> {
        let mut opened = Self::default();
        if let Some(file) = directory.open_file(FILE_NAME)? {
            opened.load(file).map_err(|error| directory.io_error(FILE_NAME, "read", error))?;
        }
        opened.ensure_space(directory, std::iter::empty());
        Ok(opened)
    }

    /// Returns the unstored revisions by source name.
    pub(crate) fn revisions(&self) -> &BTreeMap<String, u64> {
        &self.revisions
    }

    /// Adds the revisions of `removed`, whose file was removed, to the revisions in memory. Does not write the file.
    pub(crate) fn keep(&mut self, removed: Self) {
        for (name, revision) in removed.revisions {
            let last = self.revisions.entry(name).or_default();
            *last = (*last).max(revision);
        }
    }

    /// Allocates the file, if it is missing or too small for a revision of each source in `names`. A failure is only
    /// logged: [`raise`](Self::raise) returns an error when the space is needed.
    pub(crate) fn ensure_space<'a>(
        &mut self,
        directory: &StateDir,
        names: impl Iterator<Item = &'a str>,
    ) {
        let longest: BTreeMap<&str, u64> = names.map(|name| (name, u64::MAX)).collect();
        let needed = encode(u64::MAX, &longest).map_or(0, |copy| copy.len() as u64);
        if self.file.is_some() && needed <= self.copy_bytes {
            return;
        }
        if let Err(error) = self.create(directory, needed.next_power_of_two()) {
            tracing::debug!(%error, "file `unstored-revisions` not created, revisions may decrease after a crash");
        }
    }

    /// Replaces the file by one with space for two copies of `copy_bytes` bytes each, so that later writes allocate no
    /// blocks. Writes the revisions into one copy.
    fn create(&mut self, directory: &StateDir, copy_bytes: u64) -> Result<(), OpenError> {
        let copy_bytes = copy_bytes.max(MIN_COPY_BYTES);
        let new = format!("{FILE_NAME}.new");
        let mut file = directory.create_file(&new)?;
        let copy = encode(self.sequence + 1, &self.revisions);
        io::copy(&mut io::repeat(0).take(2 * copy_bytes), &mut file)
            .and_then(|_| write_copy(&mut file, copy_bytes, self.sequence + 1, &copy?))
            .map_err(|error| directory.io_error(&new, "write", error))?;
        directory.rename(&new, FILE_NAME)?;
        self.sequence += 1;
        (self.file, self.copy_bytes) = (Some(file), copy_bytes);
        Ok(())
    }

    /// Reads the revisions from the newest undamaged copy in the file.
    fn load(&mut self, mut file: File) -> io::Result<()> {
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let (first, second) = content.split_at(content.len() / 2);
        let copies = [decode(first), decode(second)].into_iter().flatten();
        if let Some((sequence, revisions)) = copies.max_by_key(|(sequence, _)| *sequence) {
            (self.sequence, self.revisions) = (sequence, revisions);
            (self.file, self.copy_bytes) = (Some(file), first.len() as u64);
        }
        Ok(())
    }

    /// Records revisions that are about to be published without being stored.
    pub(crate) fn raise<'a>(
        &mut self,
        revisions: impl Iterator<Item = (&'a str, u64)>,
    ) -> io::Result<()> {
        let mut is_changed = false;
        for (name, revision) in revisions {
            let last = self.revisions.entry(name.to_owned()).or_default();
            is_changed |= *last < revision;
            *last = (*last).max(revision);
        }
        if is_changed { self.write() } else { Ok(()) }
    }

    /// Removes all revisions, after the database has stored them.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        if self.revisions.is_empty() {
            return Ok(());
        }
        self.revisions.clear();
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let copy = encode(sequence, &self.revisions)?;
        let missing = || io::Error::other("file `unstored-revisions` could not be created earlier");
        let file = self.file.as_mut().ok_or_else(missing)?;
        if copy.len() as u64 > self.copy_bytes {
            return Err(io::Error::other("file `unstored-revisions` is too small for all sources"));
        }
        write_copy(file, self.copy_bytes, sequence, &copy)?;
        self.sequence = sequence;
        Ok(())
    }
}

/// Overwrites the older copy durably.
fn write_copy(file: &mut File, copy_bytes: u64, sequence: u64, copy: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(sequence % 2 * copy_bytes))?;
    file.write_all(copy)?;
    file.sync_data()
}

fn encode(sequence: u64, revisions: &BTreeMap<impl AsRef<str> + Ord, u64>) -> io::Result<Vec<u8>> {
    let revisions: BTreeMap<&str, u64> =
        revisions.iter().map(|(name, revision)| (name.as_ref(), *revision)).collect();
    let content = serde_json::to_vec(&revisions)?;
    let mut copy = Vec::with_capacity(HEADER_BYTES + content.len());
    copy.extend(sequence.to_le_bytes());
    copy.extend((content.len() as u64).to_le_bytes());
    copy.extend(digest(&copy, &content).as_bytes());
    copy.extend(content);
    Ok(copy)
}

/// Returns the sequence number and the revisions of a copy; `None` if it is damaged or was never written.
fn decode(copy: &[u8]) -> Option<(u64, BTreeMap<String, u64>)> {
    let (header, rest) = copy.split_at_checked(HEADER_BYTES)?;
    let (numbers, stored_digest) = header.split_at(16);
    let (sequence, length) = numbers.split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
    let content = rest.get(..usize::try_from(number(length)?).ok()?)?;
    if digest(numbers, content).as_bytes() != stored_digest {
        return None;
    }
    Some((number(sequence)?, serde_json::from_slice(content).ok()?))
}

fn digest(numbers: &[u8], content: &[u8]) -> Digest {
    Digest::of(&[numbers, content].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn open(directory: &Path) -> (StateDir, UnstoredRevisions) {
        let directory = StateDir::open(directory).expect("the directory can be used");
        let revisions = UnstoredRevisions::open(&directory).expect("the file can be used");
        (directory, revisions)
    }

    /// A crash during a write damages at most the copy that is being written.
    #[test]
    fn torn_write_leaves_previous_revisions() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let file = temporary.path().join(FILE_NAME);
        let (directory, mut revisions) = open(temporary.path());
        revisions.raise([("a", 5)].into_iter()).expect("the file is writable");
        let before = fs::read(&file).expect("the file exists");
        revisions.raise([("a", 6), ("b", 1)].into_iter()).expect("the file is writable");
        let after = fs::read(&file).expect("the file exists");
        assert_eq!(before.len(), after.len(), "the file is overwritten in place");
        drop(directory);
        let changed: Vec<_> = (0..after.len()).filter(|at| before[*at] != after[*at]).collect();
        for written in 0..=changed.len() {
            let mut torn = before.clone();
            changed[..written].iter().for_each(|at| torn[*at] = after[*at]);
            fs::write(&file, torn).expect("the file is writable");
            let (_directory, revisions) = open(temporary.path());
            let expected = if written == changed.len() { 6 } else { 5 };
            assert_eq!(revisions.revisions().get("a"), Some(&expected), "{written} bytes written");
        }
    }

    #[test]
    fn file_grows_with_configured_sources() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let names: Vec<String> = (0..1_000).map(|number| format!("source {number}")).collect();
        let (directory, mut revisions) = open(temporary.path());
        let all = || names.iter().map(|name| (name.as_str(), 7));
        let error = revisions.raise(all()).expect_err("the file is too small");
        assert!(error.to_string().contains("too small"), "{error}");
        revisions.ensure_space(&directory, names.iter().map(String::as_str));
        revisions.raise(all().map(|(name, revision)| (name, revision + 1))).expect("enough space");
        drop((directory, revisions));
        let (directory, mut revisions) = open(temporary.path());
        assert_eq!(revisions.revisions().len(), 1_000);
        assert!(revisions.revisions().values().all(|revision| *revision == 8));
        revisions.clear().expect("the file is writable");
        drop((directory, revisions));
        assert!(open(temporary.path()).1.revisions().is_empty());
    }
}

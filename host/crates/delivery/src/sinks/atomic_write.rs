//! Atomic file writes: temporary file in the same directory, fsync, rename.
//!
//! Readers see either the old or the new content. A symbolic link stays, and its target is replaced.
//!
//! The exception is `in-place`, for a file that is a mount point and cannot be replaced. Readers may
//! see a partial file during such a write. After a crash during the write, the file stays partial until
//! the host has restarted.

use super::{
    file_attributes::{Attributes, INHERITED_MODE_MASK, PRIVATE_MODE},
    file_settings::{Backup, TargetSettings},
    path_resolution::{check_file_owner, directory_of},
    temporary_file::temporary,
};
use crate::sink::Delivered;
use reloader_fs_watch::{FileFingerprint, open_without_following_link};
use rustix::{fs::OFlags, io::Errno};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// Size of the buffer that compares a file with new content, in bytes.
const COMPARE_BUFFER_BYTES: usize = 64 << 10;

/// New content of a file, before it replaces the file.
#[derive(Debug)]
pub(super) struct Staged {
    directory: PathBuf,
    attributes: Attributes,
    /// File with the new content; `None` if a file is overwritten in place without a check.
    pub(super) file: Option<NamedTempFile>,
}

/// Result of the preparation of a write.
pub(super) enum Preparation {
    /// The file already has the content.
    Unchanged(Written),
    /// The file has to be replaced.
    Staged(Staged),
}

/// Result of a successful write to the target file.
pub(super) struct Written {
    pub(super) delivered: Delivered,
    /// `true` if the content of the file was different.
    pub(super) is_content_changed: bool,
    /// Fingerprint of the file with the new content.
    pub(super) fingerprint: FileFingerprint,
}
impl TargetSettings {
    /// Writes `content` to `path`, unless the file already has this content and these attributes.
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> io::Result<Written> {
        match self.prepare(path, content)? {
            Preparation::Unchanged(written) => Ok(written),
            Preparation::Staged(staged) => self.commit(path, content, staged),
        }
    }

    /// Writes `content` to a temporary file, unless the file at `path` already has this content. In the latter case, sets
    /// its attributes.
    pub(super) fn prepare(&self, path: &Path, content: &[u8]) -> io::Result<Preparation> {
        let directory = directory_of(path);
        if self.create_directories {
            create_directories(&directory)?;
        }
        let mut previous = open_regular(path)?;
        let attributes = Attributes::new(self, previous.as_ref().map(|(_, metadata)| metadata))?;
        if let Some((file, metadata)) = &mut previous {
            // In a world-writable directory, a file of an untrusted user is rejected, unless this user is the
            // configured owner.
            if attributes.is_owner_inherited || attributes.owner != Some(metadata.uid()) {
                check_file_owner(&directory, metadata.uid())?;
            }
            if metadata.len() == content.len() as u64 && has_content(file, content)? {
                let delivered = attributes.update(file, metadata)?;
                if delivered == Delivered::Changed {
                    *metadata = file.metadata()?;
                }
                let fingerprint = FileFingerprint::from_metadata(&*metadata);
                let written = Written { delivered, is_content_changed: false, fingerprint };
                return Ok(Preparation::Unchanged(written));
            }
        }
        let is_staged = !self.in_place || self.check.is_some();
        let file = is_staged.then(|| {
            let mut file = temporary(path, &directory)?;
            // `NamedTempFile::write_all` would add the random name of the file to the error.
            file.as_file_mut().write_all(content)?;
            attributes.apply(file.as_file())?;
            self.sync_file(file.as_file())?;
            Ok::<_, io::Error>(file)
        });
        Ok(Preparation::Staged(Staged { directory, attributes, file: file.transpose()? }))
    }

    /// Replaces the file at `path` by the staged content, after its backup.
    pub(super) fn commit(
        &self,
        path: &Path,
        content: &[u8],
        staged: Staged,
    ) -> io::Result<Written> {
        let Staged { directory, attributes, file } = staged;
        let mut previous = None;
        if self.in_place || self.backup != Backup::Off {
            previous = open_regular(path)?;
        }
        // The file may have been created or replaced since the preparation.
        if let Some((_, metadata)) = &previous
            && (attributes.is_owner_inherited || attributes.owner != Some(metadata.uid()))
        {
            check_file_owner(&directory, metadata.uid())?;
        }
        if let (Backup::Suffix(suffix), Some((file, metadata))) = (&self.backup, &mut previous) {
            let mut backup = path.as_os_str().to_owned();
            backup.push(suffix);
            self.back_up(path, &directory, Path::new(&backup), file, metadata)?;
        }
        let file = match file {
            Some(file) if !self.in_place => file.persist(path).map_err(|error| error.error)?,
            _ => {
                let previous = previous.map(|(_, metadata)| metadata);
                let mut file = open_in_place(path, previous.as_ref())?;
                attributes.apply(&file)?;
                file.write_all(content)?;
                // Truncates after the write, so that readers never see an empty file.
                file.set_len(content.len() as u64)?;
                self.sync_file(&file)?;
                file
            }
        };
        let fingerprint = FileFingerprint::from_metadata(&file.metadata()?);
        self.sync_directory(&directory)?;
        Ok(Written { delivered: Delivered::Changed, is_content_changed: true, fingerprint })
    }

    /// Syncs the content of a file if `durable` is set. A temporary file is synced before it is renamed.
    fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.durable { file.sync_all() } else { Ok(()) }
    }

    /// Syncs a directory if `durable` is set. Called after a rename or a removal in it.
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        if self.durable { sync_directory(directory) } else { Ok(()) }
    }

    /// Backs up the file at `path`, opened as `previous`, to `backup`. The file at `path` exists at all times.
    fn back_up(
        &self,
        path: &Path,
        directory: &Path,
        backup: &Path,
        previous: &mut File,
        metadata: &Metadata,
    ) -> io::Result<()> {
        if !self.in_place {
            // The backup is a hard link to the previous file, or a copy on a file system without hard links. The link
            // is created under an unused name, because `hard_link` does not replace an existing backup.
            let unused = temporary(path, directory)?.path().to_path_buf();
            let linked = fs::hard_link(path, &unused).and_then(|()| fs::rename(&unused, backup));
            // Removes the link if it was not renamed. The rename also leaves it, and succeeds, if the backup is already
            // a link to the same file.
            let _ = fs::remove_file(&unused);
            if linked.is_ok() {
                return Ok(());
            }
        }
        let copy = temporary(path, directory)?;
        previous.rewind()?;
        io::copy(previous, &mut copy.as_file())?;
        let mode = metadata.mode() & INHERITED_MODE_MASK;
        copy.as_file().set_permissions(Permissions::from_mode(mode))?;
        self.sync_file(copy.as_file())?;
        copy.persist(backup).map(drop).map_err(|error| error.error)
    }

    /// Removes the file; truncates it instead if `in_place` is set.
    pub(super) fn remove(&self, path: &Path) -> io::Result<Delivered> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Delivered::Same),
            Err(error) => return Err(error),
        };
        if !metadata.is_file() {
            return Err(not_a_file());
        }
        if self.in_place {
            if metadata.len() == 0 {
                return Ok(Delivered::Same);
            }
            let file = open_in_place(path, Some(&metadata))?;
            file.set_len(0)?;
            self.sync_file(&file)?;
            return Ok(Delivered::Changed);
        }
        fs::remove_file(path)?;
        self.sync_directory(&directory_of(path))?;
        Ok(Delivered::Changed)
    }
}

/// Opens a regular file for reading, and returns it with its metadata; `None` if there is no file.
///
/// The file is opened before its type is checked, so that another program cannot replace the file after the check.
fn open_regular(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let file = match open_without_following_link(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_type_error(error)),
    };
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(Some((file, metadata))) } else { Err(not_a_file()) }
}

/// Opens a regular file to overwrite it: the file with the metadata `expected`, or a new file for `None`.
fn open_in_place(path: &Path, expected: Option<&Metadata>) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .write(true)
        .create_new(expected.is_none())
        .mode(PRIVATE_MODE)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .map_err(file_type_error)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(not_a_file());
    }
    let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    if expected.is_some_and(|expected| identity(expected) != identity(&found)) {
        return Err(io::Error::other("another program replaced the file during the write"));
    }
    Ok(file)
}

/// Returns an error of `open(2)`, or "not a regular file" if the path names a link, a socket or a named pipe.
fn file_type_error(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP | Errno::NXIO) => not_a_file(),
        _ => error,
    }
}

fn not_a_file() -> io::Error {
    io::Error::other("not a regular file")
}

/// Creates a directory and its missing parents, and syncs their directory entries.
fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory_of(directory);
    if parent != directory {
        create_directories(&parent)?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_directory(&parent),
    }
}

/// Syncs a directory, so that new and renamed entries survive a power failure.
fn sync_directory(directory: &Path) -> io::Result<()> {
    match reloader_fs_watch::open(directory).and_then(|directory| directory.sync_all()) {
        // The file system does not support fsync on directories.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        // A directory that is writable but not readable cannot be opened for fsync.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Returns whether the file has exactly this content.
fn has_content(file: &mut File, content: &[u8]) -> io::Result<bool> {
    let (mut buffer, mut rest) = (vec![0; COMPARE_BUFFER_BYTES], content);
    file.rewind()?;
    loop {
        let read = match file.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(rest.is_empty());
        }
        match rest.strip_prefix(&buffer[..read]) {
            Some(after) => rest = after,
            None => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType};
    use std::{sync::mpsc, thread};

    #[test]
    fn file_name_may_have_maximum_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x".repeat(255));
        TargetSettings::new(&path).write(&path, b"a").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"a");
    }

    /// Another program replaces the file by a named pipe: before a write, and after the check of the file's type.
    /// Each write, removal and opening must fail and not block.
    #[test]
    fn named_pipe_blocks_no_write() {
        let directory = tempfile::tempdir().unwrap();
        let (path, new) = (directory.path().join("app"), directory.path().join("new"));
        fs::write(&path, "").unwrap();
        let checked = fs::symlink_metadata(&path).unwrap();
        create_pipe(&new);
        fs::rename(&new, &path).unwrap();
        let (sender, errors) = mpsc::channel();
        thread::spawn(move || {
            let plain = TargetSettings { durable: false, ..TargetSettings::new(&path) };
            let in_place = TargetSettings { in_place: true, ..plain.clone() };
            let results = [
                plain.write(&path, b"first").map(drop),
                plain.remove(&path).map(drop),
                in_place.write(&path, b"second").map(drop),
                in_place.remove(&path).map(drop),
                open_in_place(&path, Some(&checked)).map(drop),
                open_regular(&path).map(drop),
            ];
            let _ = sender.send(results.map(|result| result.unwrap_err().to_string()));
        });
        let errors =
            errors.recv_timeout(std::time::Duration::from_secs(60)).expect("no write blocks");
        assert_eq!(errors, ["not a regular file"; 6]);
    }

    fn create_pipe(path: &Path) {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
    }

    #[test]
    fn named_pipe_and_link_are_not_regular_files() {
        let directory = tempfile::tempdir().unwrap();
        let (pipe, link) = (directory.path().join("pipe"), directory.path().join("link"));
        create_pipe(&pipe);
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        for path in [&pipe, &link] {
            let error = open_regular(path).map(drop).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file");
            let metadata = fs::symlink_metadata(path).unwrap();
            let error = open_in_place(path, Some(&metadata)).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file");
        }
    }
}

//! Atomic file writes: temporary file in the same directory, fsync, rename.
//!
//! Readers see either the old or the new content. A symbolic link stays, and its target is replaced.
//!
//! The exception is `in-place`, for a file that is a mount point and cannot be replaced. Readers may
//! see a partial file during such a write, and after a crash until the host has restarted.

use super::file_settings::{Backup, Mode, TargetSettings};
use crate::{
    serial_blocking_jobs::BlockingJobs,
    sink::{Delivered, SinkError},
};
use nix::unistd::{Group, User};
use reloader_util::digest::Digest;
use rustix::fs::{FlockOperation, flock};
use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::NamedTempFile;

/// Default permissions of a new file.
const PRIVATE_MODE: u32 = 0o600;
/// Permission bits that a new file inherits from the previous one: no set-user-ID, set-group-ID or
/// sticky bit.
const INHERITED_MODE_MASK: u32 = 0o777;
/// Prefix of the names of temporary files.
const TEMPORARY_PREFIX: &str = ".reloader-";
/// Number of hexadecimal digits of the target's name digest in the name of a temporary file.
const TEMPORARY_DIGEST_DIGITS: usize = 12;
/// Maximum number of symbolic links that a path may contain.
const MAX_SYMLINKS: usize = 40;
/// Size of the buffer that compares a file with new content, in bytes.
const COMPARE_BUFFER_BYTES: usize = 64 << 10;

/// A file that is written repeatedly, by one writer at a time.
#[derive(Debug)]
pub(super) struct Target {
    settings: Arc<TargetSettings>,
    /// Writes, which never overlap. The state is `true` after temporary files of a crashed host have
    /// been removed.
    writes: BlockingJobs<bool>,
}

impl Target {
    pub(super) fn new(settings: TargetSettings) -> Self {
        Self { settings: Arc::new(settings), writes: BlockingJobs::default() }
    }

    /// Writes `content`, or removes the file if `content` is `None`.
    pub(super) async fn write(
        &self,
        content: Option<bytes::Bytes>,
    ) -> Result<Delivered, SinkError> {
        let settings = Arc::clone(&self.settings);
        let writing = self.writes.run(move |is_cleaned_up| {
            let path = resolve_symlinks(&settings.path)?;
            if !std::mem::replace(is_cleaned_up, true) {
                remove_stale_temporaries(&path);
            }
            match content {
                Some(content) => settings.write(&path, &content),
                None => settings.remove(&path),
            }
        });
        let written = writing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| self.explain(&error))
    }

    /// Returns the error for the operator, with a hint.
    fn explain(&self, error: &io::Error) -> SinkError {
        let path = self.settings.path.display();
        let hint = match error.kind() {
            ErrorKind::ResourceBusy => "; the file is a mount point: set `in-place = true`",
            ErrorKind::NotFound if !self.settings.create_directories => {
                "; hint: create its directory or set `create-directories = true`"
            }
            _ => "",
        };
        SinkError::transient(format!("cannot write `{path}`: {error}{hint}"))
    }
}

impl TargetSettings {
    /// Writes `content` to `path`, unless the file already has this content and these attributes.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<Delivered> {
        let directory = directory_of(path);
        if self.create_directories {
            create_directories(&directory)?;
        }
        let previous = match fs::symlink_metadata(path) {
            Ok(previous) if !previous.is_file() => return Err(not_a_file()),
            Ok(previous) => Some(previous),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let attributes = Attributes::new(self, previous.as_ref())?;
        // A file that belongs to the configured owner is trusted.
        let is_configured = |uid| !attributes.is_owner_inherited && attributes.owner == Some(uid);
        if let Some(previous) = &previous
            && !is_configured(previous.uid())
            && is_foreign(&directory, previous.uid())?
        {
            return Err(foreign("file"));
        }
        if let Some(previous) = &previous {
            let mut file = File::open(path)?;
            if previous.len() == content.len() as u64 && has_content(&mut file, content)? {
                return attributes.update(&file, previous);
            }
            if let Backup::Suffix(suffix) = &self.backup {
                let mut backup = path.as_os_str().to_owned();
                backup.push(suffix);
                self.back_up(path, &directory, Path::new(&backup), previous)?;
            }
        }
        if self.in_place {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(PRIVATE_MODE)
                .open(path)?;
            attributes.apply(&file)?;
            file.write_all(content)?;
            // Truncates after the write, so that readers never see an empty file.
            file.set_len(content.len() as u64)?;
            self.sync_file(&file)?;
        } else {
            let mut file = temporary(path, &directory)?;
            file.write_all(content)?;
            attributes.apply(file.as_file())?;
            self.sync_file(file.as_file())?;
            file.persist(path).map_err(|error| error.error)?;
        }
        self.sync_directory(&directory)?;
        Ok(Delivered::Changed)
    }

    /// Syncs the content of a file if `durable` is set. Called before the rename.
    fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.durable { file.sync_all() } else { Ok(()) }
    }

    /// Syncs a directory if `durable` is set. Called after the rename.
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        if self.durable { sync_directory(directory) } else { Ok(()) }
    }

    /// Copies the file at `path` to `backup`, without a moment at which `path` does not exist.
    fn back_up(
        &self,
        path: &Path,
        directory: &Path,
        backup: &Path,
        previous: &Metadata,
    ) -> io::Result<()> {
        if !self.in_place {
            // Hard link, if the file system supports it.
            let unused = temporary(path, directory)?.path().to_path_buf();
            let linked = fs::hard_link(path, &unused).and_then(|()| fs::rename(&unused, backup));
            // rename(2) leaves the source in place if both names refer to the same file.
            let _ = fs::remove_file(&unused);
            if linked.is_ok() {
                return Ok(());
            }
        }
        let copy = temporary(path, directory)?;
        io::copy(&mut File::open(path)?, &mut copy.as_file())?;
        let mode = previous.mode() & INHERITED_MODE_MASK;
        copy.as_file().set_permissions(Permissions::from_mode(mode))?;
        self.sync_file(copy.as_file())?;
        copy.persist(backup).map(drop).map_err(|error| error.error)
    }

    /// Removes the file; truncates it instead if `in_place` is set.
    fn remove(&self, path: &Path) -> io::Result<Delivered> {
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
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(0)?;
            self.sync_file(&file)?;
            return Ok(Delivered::Changed);
        }
        fs::remove_file(path)?;
        self.sync_directory(&directory_of(path))?;
        Ok(Delivered::Changed)
    }
}

/// Permissions and ownership that a file should have.
struct Attributes {
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
    /// `true` if the owner is the one of the previous file, and setting it may fail.
    is_owner_inherited: bool,
    /// `true` if the group is the one of the previous file, and setting it may fail.
    is_group_inherited: bool,
}

impl Attributes {
    /// Returns the configured attributes, completed with those of the previous file.
    fn new(settings: &TargetSettings, previous: Option<&Metadata>) -> io::Result<Self> {
        let owner = settings.owner.as_deref().map(user_id).transpose()?;
        let group = settings.group.as_deref().map(group_id).transpose()?;
        let mode = settings.mode.map(|Mode(mode)| mode);
        let inherited_mode = previous.map(|it| it.mode() & INHERITED_MODE_MASK);
        Ok(Self {
            mode: mode.or(inherited_mode).unwrap_or(PRIVATE_MODE),
            owner: owner.or(previous.map(MetadataExt::uid)),
            group: group.or(previous.map(MetadataExt::gid)),
            is_owner_inherited: owner.is_none(),
            is_group_inherited: group.is_none(),
        })
    }

    /// Sets the attributes of a new file, while only the host's user can read it.
    fn apply(&self, file: &File) -> io::Result<()> {
        let current = file.metadata()?;
        let mut mode = self.mode;
        let changed = |new: Option<u32>, current| new.filter(|new| *new != current);
        // Separate calls for group and owner: an unprivileged user cannot change the owner, but can
        // set any group of which the user is a member.
        if let Some(group) = changed(self.group, current.gid()) {
            match fchown(file, None, Some(group)) {
                // The file keeps the host's group. The mode gives that group no access.
                Err(_) if self.is_group_inherited => mode &= !0o070,
                result => result?,
            }
        }
        if let Some(owner) = changed(self.owner, current.uid()) {
            match fchown(file, Some(owner), None) {
                Err(_) if self.is_owner_inherited => {}
                result => result?,
            }
        }
        if file.metadata()?.mode() & 0o7777 != mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Updates the attributes of a file whose content is already correct.
    fn update(&self, file: &File, current: &Metadata) -> io::Result<Delivered> {
        let owner = self.owner.unwrap_or(current.uid());
        let group = self.group.unwrap_or(current.gid());
        let is_inherited = self.mode == current.mode() & INHERITED_MODE_MASK;
        let mask = if is_inherited { INHERITED_MODE_MASK } else { 0o7777 };
        if (current.mode() & mask, current.uid(), current.gid()) == (self.mode, owner, group) {
            return Ok(Delivered::Same);
        }
        self.apply(file)?;
        file.sync_all()?;
        Ok(Delivered::Changed)
    }
}

/// Returns whether an entry of `directory` with this owner is untrusted: the directory is
/// world-writable, and the owner is neither the host's user nor the owner of the directory.
fn is_foreign(directory: &Path, owner: u32) -> io::Result<bool> {
    let metadata = fs::metadata(directory)?;
    let trusted = [rustix::process::geteuid().as_raw(), metadata.uid()];
    Ok(metadata.mode() & 0o002 != 0 && !trusted.contains(&owner))
}

fn foreign(kind: &str) -> io::Error {
    let text = format!("the {kind} belongs to another user, and its directory is world-writable");
    io::Error::new(ErrorKind::PermissionDenied, text)
}

fn not_a_file() -> io::Error {
    io::Error::other("not a regular file")
}

/// Resolves the symbolic links of the last path component, also if the target does not exist.
///
/// Links of other users in world-writable directories are rejected, since they can point anywhere.
fn resolve_symlinks(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_SYMLINKS {
        let link = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => found,
            _ => return Ok(path),
        };
        let directory = directory_of(&path);
        if is_foreign(&directory, link.uid())? {
            return Err(foreign("symbolic link"));
        }
        path = directory.join(fs::read_link(&path)?);
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory.into(),
        _ => ".".into(),
    }
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
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // The file system does not support fsync on directories.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        // The directory is writable, but not readable.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Returns the name prefix of the temporary files for `path`. It contains a hash instead of the
/// file name, which may already have the maximum length.
fn temporary_prefix(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default();
    let digest = Digest::of(name.as_encoded_bytes()).to_string();
    format!("{TEMPORARY_PREFIX}{}-", &digest[..TEMPORARY_DIGEST_DIGITS]).into()
}

/// Creates a private temporary file for `path`.
///
/// The file is locked. A temporary file without a lock is a leftover of a host that was killed.
fn temporary(path: &Path, directory: &Path) -> io::Result<NamedTempFile> {
    let prefix = temporary_prefix(path);
    let file = tempfile::Builder::new().prefix(&prefix).rand_bytes(8).tempfile_in(directory);
    let file = file.map_err(|error| without_path(&error))?;
    // On a file system without locks, `remove_stale_temporaries` removes nothing.
    let _ = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
    Ok(file)
}

/// Returns the error without the random name of a temporary file, so that repeated failures have
/// equal messages.
fn without_path(error: &io::Error) -> io::Error {
    let inner =
        error.get_ref().and_then(|with_path| with_path.source()?.downcast_ref::<io::Error>());
    if let Some(number) = inner.unwrap_or(error).raw_os_error() {
        return io::Error::from_raw_os_error(number);
    }
    // `tempfile` puts the path behind the message of the system.
    match error.to_string().rsplit_once(" at path ") {
        Some((reason, _)) => io::Error::new(error.kind(), reason.to_owned()),
        None => error.kind().into(),
    }
}

/// Removes the temporary files that a killed host has left for `path`.
fn remove_stale_temporaries(path: &Path) {
    let prefix = temporary_prefix(path);
    let Ok(entries) = fs::read_dir(directory_of(path)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let has_prefix = name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        if !has_prefix || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_file(entry.path());
        }
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

/// Returns the ID of a user, given by name or number.
pub(super) fn user_id(text: &str) -> io::Result<u32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let user = User::from_name(text)?;
    user.map(|user| user.uid.as_raw())
        .ok_or_else(|| io::Error::other(format!("user `{text}` does not exist (`owner`)")))
}

/// Returns the ID of a group, given by name or number.
pub(super) fn group_id(text: &str) -> io::Result<u32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let group = Group::from_name(text)?;
    group
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| io::Error::other(format!("group `{text}` does not exist (`group`)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only unlocked temporary files of the same target are removed.
    #[test]
    fn stale_temporary_files_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app");
        let temporary = |target: &str, suffix: &str| {
            let mut name = temporary_prefix(&directory.path().join(target));
            name.push(suffix);
            directory.path().join(name)
        };
        let stale = temporary("app", "stale");
        let locked = temporary("app", "locked");
        let unrelated = temporary("b", "stale");
        for file in [&stale, &locked, &unrelated] {
            fs::write(file, "half").unwrap();
        }
        let lock = File::open(&locked).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        remove_stale_temporaries(&path);
        assert_eq!((stale.exists(), locked.exists(), unrelated.exists()), (false, true, true));
    }

    #[test]
    fn file_name_may_have_maximum_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x".repeat(255));
        TargetSettings::new(&path).write(&path, b"a").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"a");
    }

    /// A file of group `g` with mode 0640 must not become readable for the host's group.
    #[test]
    fn group_permissions_are_dropped_if_chown_fails() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("app")).unwrap();
        // An unused group ID: only root may set it.
        let group = Some(u32::MAX - 1);
        let attributes = Attributes {
            mode: 0o640,
            owner: None,
            group,
            is_owner_inherited: true,
            is_group_inherited: true,
        };
        attributes.apply(&file).unwrap();
        let metadata = file.metadata().unwrap();
        let is_group_set = Some(metadata.gid()) == group;
        assert_eq!(metadata.mode() & 0o777, if is_group_set { 0o640 } else { 0o600 });
    }
}

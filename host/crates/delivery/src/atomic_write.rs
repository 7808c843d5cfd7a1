//! Files, written so that nobody ever sees half of one.
//!
//! What is new is written beside the old one, made durable, and takes its place by a rename. A symbolic
//! link stays, and what it leads to is replaced, as whoever made the link wanted it. The exception is
//! `in-place`, for a file that is mounted by itself, which cannot be replaced: then readers may see half
//! of it, and so they do after a crash, until the host has started again.

use super::{Delivered, SinkError};
use crate::file_settings::{Backup, Mode, TargetSettings};
use nix::unistd::{Group, User};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::NamedTempFile;
use tokio::sync::Mutex;

/// What a new file's permissions are if nobody says.
const PRIVATE: u32 = 0o600;
/// What of the permissions of the file before is kept.
const KEPT: u32 = 0o777;
/// How files are called that are being written.
const TEMPORARY: &str = ".reloader-";

/// One file that is written again and again, by one at a time.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    settings: Arc<TargetSettings>,
    /// Held by whoever writes, also when nobody waits for it any more: whoever comes later writes later.
    /// Says whether what a crash has left has been removed.
    turn: Arc<Mutex<bool>>,
}

impl Target {
    pub(crate) fn new(settings: TargetSettings) -> Self {
        Self { settings: Arc::new(settings), turn: Arc::new(Mutex::new(false)) }
    }

    /// Lets the file have this content; without one, lets it be gone.
    pub(crate) async fn write(
        &self,
        content: Option<bytes::Bytes>,
    ) -> Result<Delivered, SinkError> {
        let mut swept = Arc::clone(&self.turn).lock_owned().await;
        let settings = Arc::clone(&self.settings);
        let writing = tokio::task::spawn_blocking(move || {
            let path = destination(&settings.path)?;
            if !std::mem::replace(&mut *swept, true) {
                sweep(&path);
            }
            let written = match content {
                Some(content) => settings.put(&path, &content),
                None => settings.clear(&path),
            };
            drop(swept);
            written
        });
        let written = writing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &io::Error) -> SinkError {
        let path = self.settings.path.display();
        let hint = match error.kind() {
            ErrorKind::ResourceBusy => "; it is mounted by itself: set `in-place = true`",
            ErrorKind::NotFound if !self.settings.create_directories => {
                "; its directory must be there (or set `create-directories = true`)"
            }
            _ => "",
        };
        SinkError::passing(format!("`{path}` cannot be written: {error}{hint}"))
    }
}

impl TargetSettings {
    fn put(&self, path: &Path, content: &[u8]) -> io::Result<Delivered> {
        let directory = directory_of(path);
        if self.create_directories {
            create(&directory)?;
        }
        let before = match fs::symlink_metadata(path) {
            Ok(before) if !before.is_file() => return Err(io::Error::other("it is not a file")),
            Ok(before) => Some(before),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let wanted = Wanted::new(self, before.as_ref())?;
        // One that is to be another user's is.
        let is_meant = |uid| !wanted.as_before.0 && wanted.owner == Some(uid);
        if let Some(before) = &before
            && !is_meant(before.uid())
            && is_anybodys(&directory, before.uid())?
        {
            return Err(strange("file"));
        }
        if let Some(before) = &before {
            let mut file = File::open(path)?;
            if before.len() == content.len() as u64 && same(&mut file, content)? {
                return wanted.adjust(&file, before);
            }
            if let Backup::Suffix(suffix) = &self.backup {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                self.keep(path, &directory, Path::new(&name), before)?;
            }
        }
        if self.in_place {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(PRIVATE)
                .open(path)?;
            wanted.apply(&file)?;
            file.write_all(content)?;
            // Afterwards: so nobody sees it empty.
            file.set_len(content.len() as u64)?;
            self.settle(&file)?;
        } else {
            let mut file = temporary(path, &directory)?;
            file.write_all(content)?;
            wanted.apply(file.as_file())?;
            self.settle(file.as_file())?;
            file.persist(path).map_err(|error| error.error)?;
        }
        self.settle_name(&directory)?;
        Ok(Delivered::Changed)
    }

    /// What is in the file is on the disk, before it has its name.
    fn settle(&self, file: &File) -> io::Result<()> {
        if self.durable { file.sync_all() } else { Ok(()) }
    }

    /// And its name is.
    fn settle_name(&self, directory: &Path) -> io::Result<()> {
        if self.durable { sync(directory) } else { Ok(()) }
    }

    /// Keeps what is there, under another name; it never has none.
    fn keep(
        &self,
        path: &Path,
        directory: &Path,
        name: &Path,
        before: &Metadata,
    ) -> io::Result<()> {
        if !self.in_place {
            // A second name for the same file, where the file system has such.
            let free = temporary(path, directory)?.path().to_path_buf();
            let kept = fs::hard_link(path, &free).and_then(|()| fs::rename(&free, name));
            // If it had that name already, there is nothing to rename.
            let _ = fs::remove_file(&free);
            if kept.is_ok() {
                return Ok(());
            }
        }
        let copy = temporary(path, directory)?;
        io::copy(&mut File::open(path)?, &mut copy.as_file())?;
        copy.as_file().set_permissions(Permissions::from_mode(before.mode() & KEPT))?;
        self.settle(copy.as_file())?;
        copy.persist(name).map(drop).map_err(|error| error.error)
    }

    fn clear(&self, path: &Path) -> io::Result<Delivered> {
        let there = match fs::symlink_metadata(path) {
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Delivered::Same),
            Err(error) => return Err(error),
        };
        if !there.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        if self.in_place {
            if there.len() == 0 {
                return Ok(Delivered::Same);
            }
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(0)?;
            self.settle(&file)?;
            return Ok(Delivered::Changed);
        }
        fs::remove_file(path)?;
        self.settle_name(&directory_of(path))?;
        Ok(Delivered::Changed)
    }
}

/// What the file is to be like.
struct Wanted {
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
    /// Whether owner and group are those of before, and need not be.
    as_before: (bool, bool),
}

impl Wanted {
    fn new(settings: &TargetSettings, before: Option<&Metadata>) -> io::Result<Self> {
        let owner = settings.owner.as_deref().map(user).transpose()?;
        let group = settings.group.as_deref().map(group).transpose()?;
        let mode = settings.mode.map(|Mode(mode)| mode);
        Ok(Self {
            mode: mode.or(before.map(|it| it.mode() & KEPT)).unwrap_or(PRIVATE),
            owner: owner.or(before.map(MetadataExt::uid)),
            group: group.or(before.map(MetadataExt::gid)),
            as_before: (owner.is_none(), group.is_none()),
        })
    }

    /// Before anybody but this user can see the file.
    fn apply(&self, file: &File) -> io::Result<()> {
        let now = file.metadata()?;
        let mut mode = self.mode;
        let other = |wanted: Option<u32>, now| wanted.filter(|wanted| *wanted != now);
        // Each by itself: who may not give a file away may still give it to another group of theirs.
        if let Some(group) = other(self.group, now.gid()) {
            match fchown(file, None, Some(group)) {
                // Not to a group that was never meant.
                Err(_) if self.as_before.1 => mode &= !0o070,
                result => result?,
            }
        }
        if let Some(owner) = other(self.owner, now.uid()) {
            match fchown(file, Some(owner), None) {
                Err(_) if self.as_before.0 => {}
                result => result?,
            }
        }
        if file.metadata()?.mode() & 0o7777 != mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// The same for a file whose content is right.
    fn adjust(&self, file: &File, before: &Metadata) -> io::Result<Delivered> {
        let (owner, group) =
            (self.owner.unwrap_or(before.uid()), self.group.unwrap_or(before.gid()));
        let mask = if self.mode == before.mode() & KEPT { KEPT } else { 0o7777 };
        if (before.mode() & mask, before.uid(), before.gid()) == (self.mode, owner, group) {
            return Ok(Delivered::Same);
        }
        self.apply(file)?;
        file.sync_all()?;
        Ok(Delivered::Changed)
    }
}

/// Whether somebody else may have put there what belongs to this user: it is a directory where everybody may
/// put something, and neither the host's own user nor the directory's owner has.
fn is_anybodys(directory: &Path, owner: u32) -> io::Result<bool> {
    let around = fs::metadata(directory)?;
    let known = [rustix::process::geteuid().as_raw(), around.uid()];
    Ok(around.mode() & 0o002 != 0 && !known.contains(&owner))
}

fn strange(what: &str) -> io::Error {
    let text = format!("it is another user's {what} in a directory where everybody may put one");
    io::Error::new(ErrorKind::PermissionDenied, text)
}

/// A link stays, and where it leads is written to. Not in a directory where everybody may put one: there
/// it may be somebody else's, and lead anywhere.
fn destination(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..40 {
        let link = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => found,
            _ => return Ok(path),
        };
        let directory = directory_of(&path);
        if is_anybodys(&directory, link.uid())? {
            return Err(strange("link"));
        }
        path = directory.join(fs::read_link(&path)?);
    }
    Err(io::Error::other("its links lead in a circle"))
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory.into(),
        _ => ".".into(),
    }
}

/// Makes a directory, and those on the way, durably.
fn create(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let around = directory_of(directory);
    if around != directory {
        create(&around)?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync(&around),
    }
}

/// Names are durable only when their directory is.
fn sync(directory: &Path) -> io::Result<()> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Not all file systems can, and those need not.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        // It may be written to and not be read.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// How the files are called that are written for this one. Its own name may be as long as names can be.
fn prefix(path: &Path) -> OsString {
    let digest = Sha256::digest(path.file_name().unwrap_or_default().as_encoded_bytes());
    let name: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{TEMPORARY}{name}-").into()
}

/// A new file beside this one, which only this user can read. It is locked: whoever finds one that is not
/// knows that nobody writes it any more.
fn temporary(path: &Path, directory: &Path) -> io::Result<NamedTempFile> {
    let prefix = prefix(path);
    let file = tempfile::Builder::new().prefix(&prefix).rand_bytes(8).tempfile_in(directory);
    let file = file.map_err(|error| without_name(&error))?;
    // Where there are no locks, there are none to find.
    let _ = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
    Ok(file)
}

/// What the system says, without the file's name: it is another one at each try, and nobody knows it.
fn without_name(error: &io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|named| named.source()?.downcast_ref::<io::Error>());
    match inner.unwrap_or(error).raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => error.kind().into(),
    }
}

/// Removes what a host that was killed has left.
fn sweep(path: &Path) {
    let prefix = prefix(path);
    let Ok(entries) = fs::read_dir(directory_of(path)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether this is what is in the file.
fn same(file: &mut File, content: &[u8]) -> io::Result<bool> {
    let (mut buffer, mut rest) = (vec![0; 64 << 10], content);
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

pub(crate) fn user(text: &str) -> io::Result<u32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let user = User::from_name(text)?;
    user.map(|user| user.uid.as_raw())
        .ok_or_else(|| io::Error::other(format!("there is no user `{text}` (`owner`)")))
}

pub(crate) fn group(text: &str) -> io::Result<u32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let group = Group::from_name(text)?;
    group
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| io::Error::other(format!("there is no group `{text}` (`group`)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_has_left_is_removed_and_what_is_being_written_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("app");
        let name = |of: &str, end: &str| {
            let mut name = prefix(&place.path().join(of));
            name.push(end);
            place.path().join(name)
        };
        let (left, used, others) = (name("app", "left"), name("app", "used"), name("b", "left"));
        for file in [&left, &used, &others] {
            fs::write(file, "half").unwrap();
        }
        let lock = File::open(&used).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        sweep(&path);
        assert_eq!((left.exists(), used.exists(), others.exists()), (false, true, true));
    }

    #[test]
    fn a_name_may_be_as_long_as_names_can_be() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x".repeat(255));
        TargetSettings::new(&path).put(&path, b"a").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"a");
    }

    #[test]
    fn a_group_that_cannot_be_kept_gives_nobody_else_what_it_could_read() {
        let place = tempfile::tempdir().unwrap();
        let file = File::create(place.path().join("app")).unwrap();
        // As if of a group that nobody may give a file to: there is no such number.
        let group = Some(u32::MAX - 1);
        let wanted = Wanted { mode: 0o640, owner: None, group, as_before: (true, true) };
        wanted.apply(&file).unwrap();
        let now = file.metadata().unwrap();
        let kept = Some(now.gid()) == group;
        assert_eq!(now.mode() & 0o777, if kept { 0o640 } else { 0o600 });
    }
}

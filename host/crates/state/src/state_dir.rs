//! The files of the state: a directory for its owner alone, a lock, and what was set aside.

use crate::error::OpenError;
use jiff::Timestamp;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// The database …
const DATABASE: &str = "state.redb";
/// … while it is made …
const UNBORN: &str = "state.redb.new";
/// … and when it was set aside, before the time.
const ASIDE: &str = "state.redb.broken-";
/// Held by the host that uses it, with its process number in it.
const LOCK: &str = "lock";
/// So many that were set aside are kept.
const KEPT_ASIDE: usize = 3;

/// A database that could not be used, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

impl std::fmt::Display for SetAside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, reason } = self;
        write!(f, "the state could not be used, and is begun anew: {reason}; ")?;
        write!(f, "the file is kept as {}", path.display())
    }
}

/// The state's directory, used by this host alone while this lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    /// Makes it, if it is not there, and makes sure that nobody else uses it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        make(path)?;
        guard::directory(path)?;
        let lock_path = path.join(LOCK);
        let mut lock = open_private(&lock_path, true)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&mut lock).take(32).read_to_string(&mut pid);
                let directory = path.to_owned();
                return Err(OpenError::InUse { directory, pid: pid.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => {
                return Err(refused(&lock_path, "locking it")(error));
            }
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        // For people; that the disk is full says something else.
        if let Err(error) = written {
            tracing::debug!("the process number is not in {}: {error}", lock_path.display());
        }
        Ok(Self { path: path.to_owned(), lock })
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// The database, if there is one.
    pub(crate) fn open_database(&self) -> Result<Option<File>, OpenError> {
        let path = self.database();
        match fs::symlink_metadata(&path) {
            Ok(_) => open_private(&path, false).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused(&path, "looking for it")(error)),
        }
    }

    /// An empty file, which becomes the database with [`born`](Self::born): so that none is ever found
    /// half made.
    pub(crate) fn unborn(&self) -> Result<File, OpenError> {
        let path = self.path.join(UNBORN);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(refused(&path, "removing what is left of another start")(error));
            }
        }
        open_private(&path, true)
    }

    pub(crate) fn born(&self) -> Result<(), OpenError> {
        let path = self.database();
        fs::rename(self.path.join(UNBORN), &path)
            .and_then(|()| self.sync())
            .map_err(refused(&path, "putting it into its place"))
    }

    /// Takes the database out of the way. Of those that were there before, only the newest are kept.
    pub(crate) fn set_aside(&self, reason: String) -> Result<SetAside, OpenError> {
        let from = self.database();
        let at = Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ");
        let path = self.path.join(format!("{ASIDE}{at}"));
        fs::rename(&from, &path)
            .and_then(|()| self.sync())
            .map_err(refused(&from, "setting it aside"))?;
        if let Err(error) = self.forget_old_ones() {
            tracing::debug!("what was set aside long ago is still there: {error}");
        }
        Ok(SetAside { path, reason })
    }

    fn forget_old_ones(&self) -> io::Result<()> {
        let mut aside: Vec<_> = fs::read_dir(&self.path)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(ASIDE))
            .map(|entry| entry.path())
            .collect();
        // Their names end with the time.
        aside.sort();
        let old = aside.len().saturating_sub(KEPT_ASIDE);
        aside[..old].iter().try_for_each(fs::remove_file)
    }

    fn sync(&self) -> io::Result<()> {
        #[cfg(unix)]
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }
}

/// Not left to the closing of the file: a process that is just being started has it too, for a moment.
impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::debug!("the lock of {} is still held: {error}", self.path.display());
        }
    }
}

fn refused(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |error| OpenError::Io { path: path.to_owned(), doing, error }
}

fn make(path: &Path) -> Result<(), OpenError> {
    if path.exists() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(refused(path, "making the directory"))?;
    guard::private(path, 0o700).map_err(refused(path, "setting its mode"))
}

/// Opens a file that nobody else can read, whatever the umask is.
fn open_private(path: &Path, create: bool) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create);
    guard::no_links(&mut options);
    let file = options.open(path).map_err(refused(path, "opening it"))?;
    guard::file(path, &file)?;
    Ok(file)
}

/// What others may do.
#[cfg(unix)]
mod guard {
    use super::{OpenError, refused};
    use std::{
        fs::{self, File, Metadata, OpenOptions, Permissions},
        io,
        os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
        path::Path,
    };

    pub(crate) fn private(path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    /// Neither follows a link, nor waits for who is at the other end of a pipe.
    pub(crate) fn no_links(options: &mut OpenOptions) {
        use rustix::fs::OFlags;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        options.mode(0o600).custom_flags(flags.cast_signed());
    }

    /// Nobody but its owner may put files into it, or take them out.
    pub(crate) fn directory(path: &Path) -> Result<(), OpenError> {
        let metadata = fs::metadata(path).map_err(refused(path, "looking at it"))?;
        let broken = |reason: String| OpenError::Unsafe { path: path.to_owned(), reason };
        if !metadata.is_dir() {
            return Err(broken("it is not a directory".into()));
        }
        owner(&metadata).map_err(broken)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            let reason = format!("others may write to it (mode {mode:o}); `chmod 700` it");
            return Err(broken(reason));
        }
        Ok(())
    }

    pub(crate) fn file(path: &Path, file: &File) -> Result<(), OpenError> {
        let metadata = file.metadata().map_err(refused(path, "looking at it"))?;
        let broken = |reason: String| OpenError::Unsafe { path: path.to_owned(), reason };
        if !metadata.is_file() {
            return Err(broken("it is not a file; move it away".into()));
        }
        owner(&metadata).map_err(broken)?;
        if metadata.mode() & 0o7777 != 0o600 {
            file.set_permissions(Permissions::from_mode(0o600))
                .map_err(refused(path, "setting its mode"))?;
        }
        Ok(())
    }

    fn owner(metadata: &Metadata) -> Result<(), String> {
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner == user {
            return Ok(());
        }
        Err(format!(
            "it belongs to user {owner}, and this host runs as {user}; `chown` it, or use another"
        ))
    }
}

#[cfg(not(unix))]
mod guard {
    use super::OpenError;
    use std::{
        fs::{File, OpenOptions},
        io,
        path::Path,
    };

    pub(crate) fn private(_: &Path, _: u32) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn no_links(_: &mut OpenOptions) {}

    pub(crate) fn directory(_: &Path) -> Result<(), OpenError> {
        Ok(())
    }

    pub(crate) fn file(_: &Path, _: &File) -> Result<(), OpenError> {
        Ok(())
    }
}

//! State directory: its permissions, the lock file, the database file, and databases moved aside.

use crate::{error::OpenError, lock_holder::LockHolder};
use jiff::Timestamp;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Database file.
const DATABASE_FILE: &str = "state.redb";
/// Database file during its creation.
const NEW_DATABASE_FILE: &str = "state.redb.new";
/// Name prefix of unusable or replaced databases that were renamed ("moved aside"). The time of the rename follows.
const MOVED_ASIDE_PREFIX: &str = "state.redb.broken-";
/// Lock file. It contains the process ID of the host that holds the lock.
const LOCK_FILE: &str = "lock";
/// Maximum time to wait for the lock at the start. A previous host that is still ending, and its child processes,
/// have this time to release the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two attempts to lock the directory.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum number of databases moved aside that are kept.
const MAX_MOVED_ASIDE_FILES: usize = 3;

/// Unusable database that was moved aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedAside {
    /// Current path of the file.
    pub path: PathBuf,
    /// Reason why the database is unusable.
    pub reason: String,
}

impl std::fmt::Display for MovedAside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, reason } = self;
        write!(f, "state database unusable, moved aside to {}: {reason}", path.display())
    }
}

/// State directory. The host holds the lock until the value is dropped.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    lock: File,
}

impl StateDir {
    /// Creates the directory if it does not exist, checks its permissions, and locks it. Waits up to
    /// [`LOCK_TIMEOUT`] for the lock.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_within(path, LOCK_TIMEOUT)
    }

    fn open_within(path: &Path, timeout: Duration) -> Result<Self, OpenError> {
        create_directory(path)?;
        permissions::check_directory(path)?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = open_private(&lock_path, true)?;
        let end = Instant::now() + timeout;
        let mut is_waiting = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < end => {
                    if !is_waiting {
                        let directory = path.display();
                        tracing::info!(%directory, ?timeout, "state directory locked, waiting");
                        is_waiting = true;
                    }
                    thread::sleep(LOCK_RETRY_INTERVAL);
                }
                Err(TryLockError::WouldBlock) => {
                    let mut pid = String::new();
                    let _ = (&mut lock).take(32).read_to_string(&mut pid);
                    let holder = LockHolder::find(&lock, pid.trim().parse().ok());
                    return Err(OpenError::InUse { directory: path.to_owned(), holder });
                }
                Err(TryLockError::Error(error)) => return Err(io_error(&lock_path, "lock")(error)),
            }
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        // A failure is not an error: only the error message of another host needs the process ID, and the writer
        // thread reports a full disk.
        if let Err(error) = written {
            let file = lock_path.display();
            tracing::debug!(%file, %error, "process ID not written to the lock file");
        }
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the lock file and the database file are still in the directory. `database` is the
    /// open database file, if it could be created.
    pub(crate) fn is_in_place(&self, database: Option<&File>) -> bool {
        is_same_file(&self.path.join(LOCK_FILE), &self.lock)
            && database.is_none_or(|database| is_same_file(&self.database(), database))
    }

    /// Creates what was removed while the host runs: the directory, the lock file, and the database, as a copy
    /// of the open file `database`. If another file has the path of the database, it is moved aside.
    pub(crate) fn restore(&mut self, database: Option<&File>) -> Result<(), OpenError> {
        if !is_same_file(&self.path.join(LOCK_FILE), &self.lock) {
            *self = Self::open_within(&self.path, Duration::ZERO)?;
        }
        let Some(database) = database.filter(|file| !is_same_file(&self.database(), file)) else {
            return Ok(());
        };
        let mut copy = self.create_new_file()?;
        database
            .try_clone()
            .and_then(|mut database| {
                database.rewind()?;
                io::copy(&mut database, &mut copy)
            })
            .map_err(io_error(&self.path.join(NEW_DATABASE_FILE), "write"))?;
        if fs::symlink_metadata(self.database()).is_ok() {
            let moved = self.move_aside("replaced while the host was running".into())?;
            tracing::warn!(
                moved_to = %moved.path.display(),
                "state database replaced by another program, restoring the original"
            );
        }
        copy.sync_all().map_err(io_error(&self.database(), "write"))?;
        self.publish_new_file()
    }

    /// Opens a private file in the directory, if it exists.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<File>, OpenError> {
        open_existing(&self.path.join(name))
    }

    /// Creates an empty private file in the directory. Deletes an existing file of that name.
    pub(crate) fn create_file(&self, name: &str) -> Result<File, OpenError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&path, "delete")(error)),
        }
        open_private(&path, true)
    }

    /// Renames a file in the directory durably.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), OpenError> {
        let path = self.path.join(to);
        fs::rename(self.path.join(from), &path)
            .and_then(|()| self.sync())
            .map_err(io_error(&path, "create"))
    }

    /// Adds the path of a file in the directory and the failed operation to an I/O error.
    pub(crate) fn io_error(
        &self,
        name: &str,
        operation: &'static str,
        error: io::Error,
    ) -> OpenError {
        io_error(&self.path.join(name), operation)(error)
    }

    /// Returns the path of the database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// Opens the database file, if it exists.
    pub(crate) fn open_database(&self) -> Result<Option<File>, OpenError> {
        self.open_file(DATABASE_FILE)
    }

    /// Creates an empty file for a new database. [`publish_new_file`](Self::publish_new_file) renames it to
    /// the database file when it is complete, so that a crash never leaves a partial database.
    pub(crate) fn create_new_file(&self) -> Result<File, OpenError> {
        self.create_file(NEW_DATABASE_FILE)
    }

    /// Renames the new file to the database file.
    pub(crate) fn publish_new_file(&self) -> Result<(), OpenError> {
        self.rename(NEW_DATABASE_FILE, DATABASE_FILE)
    }

    /// Moves the database file aside by renaming it. Keeps at most [`MAX_MOVED_ASIDE_FILES`], the newest ones.
    pub(crate) fn move_aside(&self, reason: String) -> Result<MovedAside, OpenError> {
        let from = self.database();
        let at = Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ");
        let path = self.path.join(format!("{MOVED_ASIDE_PREFIX}{at}"));
        fs::rename(&from, &path).and_then(|()| self.sync()).map_err(io_error(&from, "move"))?;
        if let Err(error) = self.delete_old_moved_aside() {
            tracing::debug!(%error, "deleting an old unusable state database failed");
        }
        Ok(MovedAside { path, reason })
    }

    fn delete_old_moved_aside(&self) -> io::Result<()> {
        let mut files: Vec<_> = fs::read_dir(&self.path)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(MOVED_ASIDE_PREFIX))
            .map(|entry| entry.path())
            .collect();
        // The names end with the time, so the oldest files come first.
        files.sort();
        let old = files.len().saturating_sub(MAX_MOVED_ASIDE_FILES);
        files[..old].iter().try_for_each(fs::remove_file)
    }

    /// Makes renames in the directory durable.
    fn sync(&self) -> io::Result<()> {
        #[cfg(unix)]
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }
}

/// Unlocks the directory. Closing the file is not enough: a child process that is being started still has a
/// copy of the descriptor.
impl Drop for StateDir {
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            let directory = self.path.display();
            tracing::debug!(%directory, %error, "state directory not unlocked");
        }
    }
}

/// Returns a function that adds the path and the failed operation to an I/O error.
fn io_error(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |error| OpenError::Io { path: path.to_owned(), operation, error }
}

/// Creates the directory with mode 0700, independent of the umask, and missing parents with mode 0700 minus the umask.
fn create_directory(path: &Path) -> Result<(), OpenError> {
    if path.exists() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(io_error(path, "create"))?;
    permissions::set_mode(path, 0o700).map_err(io_error(path, "set the mode of"))
}

/// Opens a regular file, if it exists, and sets its mode to 0600.
fn open_existing(path: &Path) -> Result<Option<File>, OpenError> {
    match fs::symlink_metadata(path) {
        Ok(_) => open_private(path, false).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path, "inspect")(error)),
    }
}

/// Returns whether `path` exists and is the open file `file`. A path that exists but cannot be inspected counts as the
/// same file.
fn is_same_file(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(path), Ok(file)) => permissions::is_same_inode(&path, &file),
        (Err(error), _) => {
            !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        }
        (Ok(_), Err(_)) => true,
    }
}

/// Opens a regular file, and sets its mode to 0600, independent of the umask. With `create`, creates a missing file.
fn open_private(path: &Path, create: bool) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create);
    permissions::set_open_flags(&mut options);
    let file = options.open(path).map_err(io_error(path, "open"))?;
    permissions::check_file(path, &file)?;
    Ok(file)
}

/// Ownership and mode of the directory and its files.
#[cfg(unix)]
mod permissions {
    use super::{OpenError, io_error};
    use std::{
        fs::{self, File, Metadata, OpenOptions, Permissions},
        io,
        os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
        path::Path,
    };

    pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    /// Makes opening fail for a symbolic link, and prevents blocking on a FIFO.
    pub(crate) fn set_open_flags(options: &mut OpenOptions) {
        use rustix::fs::OFlags;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        options.mode(0o600).custom_flags(flags.cast_signed());
    }

    pub(crate) fn is_same_inode(one: &Metadata, other: &Metadata) -> bool {
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }

    /// Checks that the directory belongs to this user, and that no other user can write to it.
    pub(crate) fn check_directory(path: &Path) -> Result<(), OpenError> {
        let metadata = fs::metadata(path).map_err(io_error(path, "inspect"))?;
        let unsafe_path = |reason: String| OpenError::Unsafe { path: path.to_owned(), reason };
        if !metadata.is_dir() {
            return Err(unsafe_path("not a directory".into()));
        }
        check_owner(&metadata).map_err(unsafe_path)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            let reason =
                format!("other users can write to it (mode {mode:o}); hint: run `chmod 700`");
            return Err(unsafe_path(reason));
        }
        Ok(())
    }

    /// Checks that the file is a regular file of this user, and sets its mode to 0600.
    pub(crate) fn check_file(path: &Path, file: &File) -> Result<(), OpenError> {
        let metadata = file.metadata().map_err(io_error(path, "inspect"))?;
        let unsafe_path = |reason: String| OpenError::Unsafe { path: path.to_owned(), reason };
        if !metadata.is_file() {
            return Err(unsafe_path("not a regular file; hint: move or delete it".into()));
        }
        check_owner(&metadata).map_err(unsafe_path)?;
        if metadata.mode() & 0o7777 != 0o600 {
            file.set_permissions(Permissions::from_mode(0o600))
                .map_err(io_error(path, "set the mode of"))?;
        }
        Ok(())
    }

    fn check_owner(metadata: &Metadata) -> Result<(), String> {
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner == user {
            return Ok(());
        }
        Err(format!(
            "owned by user {owner}, but the host runs as user {user}; hint: run `chown`, or set a different \
             `path` in `[state]`"
        ))
    }
}

#[cfg(not(unix))]
mod permissions {
    use super::OpenError;
    use std::{
        fs::{File, Metadata, OpenOptions},
        io,
        path::Path,
    };

    pub(crate) fn set_mode(_: &Path, _: u32) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn set_open_flags(_: &mut OpenOptions) {}

    pub(crate) fn is_same_inode(_: &Metadata, _: &Metadata) -> bool {
        true
    }

    pub(crate) fn check_directory(_: &Path) -> Result<(), OpenError> {
        Ok(())
    }

    pub(crate) fn check_file(_: &Path, _: &File) -> Result<(), OpenError> {
        Ok(())
    }
}

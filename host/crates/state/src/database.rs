//! Database file: opening, checking, compaction and transactions.
//!
//! While the file cannot be written, a view replaces the database. A view reads the file, and keeps the blocks that are
//! written to the view in memory.

use crate::{
    apply_writes::Tables,
    disk_format::{
        CONTENTS, DELIVERIES, FORMAT_VERSION, HISTORY, META, REJECTED_CONTENTS, REJECTIONS,
        SOURCES, decode_revision, decode_source,
    },
    error::{OpenError, StoreError},
    overlay_backend::OverlayBackend,
    state_dir::{MovedAside, StateDir},
};
use redb::{
    Builder, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable as _, StorageBackend,
    StorageError, WriteTransaction, backends::FileBackend,
};
use reloader_util::{panics, sync::RwLock};
use std::{
    fs::File,
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Size of redb's page cache, in bytes. A small cache is enough, since the kernel caches the pages too.
const CACHE_BYTES: usize = 8 << 20;
/// Maximum size of a database whose pages are all checked on open, in bytes. Checking this size takes 0.1
/// seconds. The pages of a larger database are checked on open only after a crash, and otherwise when they are
/// read.
const MAX_FULL_CHECK_BYTES: u64 = 256 << 20;
/// Minimum size of a database that is compacted, in bytes.
const MIN_COMPACTION_BYTES: u64 = 4 << 20;
/// Minimum ratio of the file size to the used size for compaction. A lower ratio is normal: values take up
/// to twice their size, and a new value is written beside the old one.
const MIN_COMPACTION_RATIO: u64 = 4;

/// State database, which has been opened and checked.
#[derive(Debug)]
pub(crate) struct Database {
    database: redb::Database,
    /// Database file. `None` for a view of a database that could not be created.
    file: Option<File>,
    /// Size of the blocks in memory that were written to this view, in bytes. `None` for the database itself.
    view_bytes: Option<Arc<AtomicU64>>,
}

/// Database that the handles read and the writer thread writes. It is a view while writes fail, and `None` after
/// closing or if the view cannot be opened.
pub(crate) type SharedDatabase = Arc<RwLock<Option<Database>>>;

/// Choice whether a database with much unused space is compacted when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compaction {
    IfUseful,
    Never,
}

/// Reason why a database file could not be loaded.
enum LoadError {
    /// The content is damaged or has another format version. The file is moved aside.
    Unusable(String),
    /// A system call failed.
    Io(std::io::Error),
}

impl Database {
    /// Opens the database, or creates it. Moves an unusable one aside.
    pub(crate) fn open(
        directory: &StateDir,
        compaction: Compaction,
    ) -> Result<(Self, Option<MovedAside>), OpenError> {
        let Some(file) = directory.open_database()? else {
            return Ok((Self::create(directory)?, None));
        };
        let path = directory.database();
        let io_error = |operation| {
            let path = path.clone();
            move |error| OpenError::Io { path, operation, error }
        };
        let length = file.metadata().map_err(io_error("inspect"))?.len();
        match catch_panic(|| Self::load(file, length, compaction)) {
            Ok(database) => Ok((database, None)),
            Err(LoadError::Unusable(reason)) => {
                let moved = directory.move_aside(reason)?;
                tracing::warn!(
                    moved_to = %moved.path.display(),
                    reason = %moved.reason,
                    "state database unusable, starting with an empty one"
                );
                Ok((Self::create(directory)?, Some(moved)))
            }
            Err(LoadError::Io(error)) => Err(io_error("read")(error)),
        }
    }

    fn load(file: File, length: u64, compaction: Compaction) -> Result<Self, LoadError> {
        if length == 0 {
            return Err(LoadError::Unusable("file is empty".into()));
        }
        let mut database = Self::over_file(file, length <= MAX_FULL_CHECK_BYTES)?;
        database.read(check)?;
        if length >= MIN_COMPACTION_BYTES && compaction == Compaction::IfUseful {
            database.compact(length)?;
        }
        Ok(database)
    }

    fn create(directory: &StateDir) -> Result<Self, OpenError> {
        let file = directory.create_new_file()?;
        let created = catch_panic(|| {
            let database = Self::over_file(file, false)?;
            database.initialize()?;
            Ok(database)
        });
        let database = created.map_err(|error| OpenError::Io {
            path: directory.database(),
            operation: "create",
            error: to_io_error(error),
        })?;
        directory.publish_new_file()?;
        Ok(database)
    }

    /// Opens a view of the database in `file`, or of an empty one. Writes to a view stay in memory.
    ///
    /// While the view is in use, at most one transaction may write to the file. One transaction does not overwrite
    /// pages that the view reads. A second one could reuse pages that the first one has freed.
    pub(crate) fn open_view(file: Option<&File>) -> std::io::Result<Self> {
        let view = catch_panic(|| {
            let file = file.map(File::try_clone).transpose().map_err(LoadError::Io)?;
            let backend = file.as_ref().map(File::try_clone).transpose().map_err(LoadError::Io)?;
            let backend = backend.map(FileBackend::new).transpose().map_err(to_load_error)?;
            let backend = OverlayBackend::new(backend).map_err(LoadError::Io)?;
            let view_bytes = Some(backend.memory_bytes());
            let view = Self { database: open_backend(backend, false)?, file, view_bytes };
            if view.file.is_some() {
                view.read(check)?;
            } else {
                view.initialize()?;
            }
            Ok(view)
        });
        view.map_err(to_io_error)
    }

    fn over_file(file: File, check_integrity: bool) -> Result<Self, LoadError> {
        let backend = file.try_clone().map_err(LoadError::Io)?;
        let backend = FileBackend::new(backend).map_err(to_load_error)?;
        let database = open_backend(backend, check_integrity)?;
        Ok(Self { database, file: Some(file), view_bytes: None })
    }

    /// Writes the format version, and creates the tables.
    fn initialize(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(META)?.insert("format", FORMAT_VERSION)?;
            Tables::open(transaction)?;
            Ok(())
        })
    }

    /// Returns the database file. `None` for a view of a database that could not be created.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Returns the size of the blocks in memory that were written to this view, in bytes. Returns 0 for the database
    /// itself.
    pub(crate) fn view_bytes(&self) -> u64 {
        self.view_bytes.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed))
    }

    /// Runs `action` in one transaction, which is durable when the function returns. An error or a panic rolls
    /// the transaction back.
    pub(crate) fn write<T>(
        &self,
        action: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        catch_panic(|| {
            let transaction = self.database.begin_write()?;
            let result = action(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Runs `action` on a snapshot of the database. Readers and the writer do not wait for each other.
    pub(crate) fn read<T>(
        &self,
        action: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        catch_panic(|| action(&self.database.begin_read()?))
    }

    /// Returns unused space to the file system, if it is a large part of the file.
    fn compact(&mut self, length: u64) -> Result<(), LoadError> {
        let transaction = self.database.begin_write().map_err(StoreError::from)?;
        let stats = transaction.stats().map_err(StoreError::from)?;
        transaction.abort().map_err(StoreError::from)?;
        let used = stats.stored_bytes() + stats.metadata_bytes();
        if length / MIN_COMPACTION_RATIO < used {
            return Ok(());
        }
        match self.database.compact() {
            Ok(_) => {}
            // The database stays usable without compaction.
            Err(error) => tracing::debug!(%error, "state database not compacted"),
        }
        Ok(())
    }
}

fn open_backend(
    backend: impl StorageBackend,
    check_integrity: bool,
) -> Result<redb::Database, LoadError> {
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(check_integrity)
        .create_with_backend(backend)
        .map_err(to_load_error)
}

fn to_io_error(error: LoadError) -> std::io::Error {
    match error {
        LoadError::Io(error) => error,
        LoadError::Unusable(reason) => std::io::Error::other(reason),
    }
}

/// Checks the format version, and decodes the records of all sources and revisions.
fn check(transaction: &ReadTransaction) -> Result<(), StoreError> {
    let format = transaction.open_table(META)?.get("format")?.map(|format| format.value());
    match format {
        Some(FORMAT_VERSION) => {}
        Some(other) => {
            let message = format!("format version is {other}, this host supports {FORMAT_VERSION}");
            return Err(StoreError::Damaged(message));
        }
        None => return Err(StoreError::Damaged("format version is missing".into())),
    }
    transaction.open_table(CONTENTS)?;
    transaction.open_table(DELIVERIES)?;
    transaction.open_table(REJECTIONS)?;
    transaction.open_table(REJECTED_CONTENTS)?;
    for entry in transaction.open_table(SOURCES)?.iter()? {
        let (name, record) = entry?;
        decode_source(name.value(), record.value())?;
    }
    for entry in transaction.open_table(HISTORY)?.iter()? {
        let (key, record) = entry?;
        let (name, revision) = key.value();
        decode_revision(name, revision, record.value())?;
    }
    Ok(())
}

/// Converts a panic into an error. redb checks most of what it reads, but some damage makes it panic.
fn catch_panic<T, E: From<Panicked>>(action: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    panics::catch(action).unwrap_or_else(|message| Err(Panicked { message }.into()))
}

/// Panic inside redb.
struct Panicked {
    message: String,
}

impl Panicked {
    fn reason(&self) -> String {
        format!("panic while accessing the database: {}", self.message)
    }
}

impl From<Panicked> for LoadError {
    fn from(panicked: Panicked) -> Self {
        Self::Unusable(panicked.reason())
    }
}

impl From<Panicked> for StoreError {
    fn from(panicked: Panicked) -> Self {
        Self::Damaged(panicked.reason())
    }
}

fn to_load_error(error: DatabaseError) -> LoadError {
    match error {
        DatabaseError::Storage(StorageError::Io(error)) => classify_io_error(error),
        DatabaseError::DatabaseAlreadyOpen => {
            LoadError::Io(std::io::Error::other("database already open in another program"))
        }
        error => LoadError::Unusable(error.to_string()),
    }
}

/// Separates invalid content, which redb also reports as an I/O error, from failed system calls.
fn classify_io_error(error: std::io::Error) -> LoadError {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => LoadError::Unusable(error.to_string()),
        _ => LoadError::Io(error),
    }
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) => match *error {
                redb::Error::Io(error) => classify_io_error(error),
                error => Self::Unusable(error.to_string()),
            },
            StoreError::Damaged(reason) => Self::Unusable(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs, io,
        sync::atomic::{AtomicBool, AtomicU32},
    };

    /// Backend over a file whose calls of `set_len`, `write` and `sync_data` fail after the first `calls_left` calls.
    #[derive(Debug)]
    struct FailingBackend {
        file: FileBackend,
        calls_left: Arc<AtomicU32>,
        /// Set if the first half of the data of the first failing write reaches the file.
        is_torn: AtomicBool,
    }

    impl FailingBackend {
        fn call(&self) -> io::Result<()> {
            let left = self
                .calls_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
        }
    }

    impl StorageBackend for FailingBackend {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, length: u64) -> io::Result<()> {
            self.call()?;
            self.file.set_len(length)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.call()?;
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            if let Err(error) = self.call() {
                if self.is_torn.swap(false, Ordering::Relaxed) {
                    self.file.write(offset, &data[..data.len() / 2])?;
                }
                return Err(error);
            }
            self.file.write(offset, data)
        }
    }

    fn put(database: &Database, revision: u64) -> Result<(), StoreError> {
        database.write(|transaction| {
            let content = vec![u8::try_from(revision).unwrap_or_default(); 9_000];
            let mut contents = transaction.open_table(CONTENTS)?;
            contents.insert(("a", revision), &content[..])?;
            contents.remove(("a", revision.saturating_sub(4)))?;
            Ok(())
        })
    }

    /// Returns the stored revisions, after a check of their contents.
    fn revisions(database: &Database) -> Vec<u64> {
        let read = database.read(|transaction| {
            let mut revisions = Vec::new();
            for entry in transaction.open_table(CONTENTS)?.iter()? {
                let (key, content) = entry?;
                let (_, revision) = key.value();
                let byte = u8::try_from(revision).expect("few revisions");
                assert!(content.value().iter().all(|found| *found == byte), "revision {revision}");
                revisions.push(revision);
            }
            Ok(revisions)
        });
        read.unwrap_or_else(|error| panic!("the view is not readable: {error}"))
    }

    /// Each run executes eight transactions, and all disk operations after the first `calls` ones fail. In every second
    /// run, the first failing write still writes half of its data. After the failure, a view contains all acknowledged
    /// transactions, and writes to the view leave the file unchanged.
    #[test]
    fn view_has_acknowledged_writes_after_any_failed_call() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut completed = 0;
        for calls in 0.. {
            let path = directory.path().join(format!("{calls}"));
            let file = File::options().read(true).write(true).create_new(true).open(&path);
            let file = file.expect("a new file");
            let clone = || file.try_clone().expect("a copy of the descriptor");
            let over = |backend| Database {
                database: open_backend(backend, false).ok().expect("the disk works"),
                file: Some(clone()),
                view_bytes: None,
            };
            let calls_left = Arc::new(AtomicU32::new(u32::MAX));
            let backend = FailingBackend {
                file: FileBackend::new(clone()).expect("a backend"),
                calls_left: Arc::clone(&calls_left),
                is_torn: AtomicBool::new(calls % 2 == 1),
            };
            let database = over(backend);
            database.initialize().unwrap_or_else(|error| panic!("{error}"));
            calls_left.store(calls, Ordering::Relaxed);
            let acknowledged = (1..=8).take_while(|revision| put(&database, *revision).is_ok());
            let acknowledged = acknowledged.last().unwrap_or_default();
            drop(database);
            let before = fs::read(&path).expect("the file exists");
            let view = Database::open_view(Some(&file)).expect("the view can be opened");
            let found = revisions(&view);
            let last = found.last().copied().unwrap_or_default();
            // A transaction whose last call failed may have reached the disk.
            assert!(last == acknowledged || last == acknowledged + 1, "call {calls}: {found:?}");
            for revision in last + 1..last + 4 {
                put(&view, revision).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(revisions(&view).last(), Some(&revision));
            }
            assert!(view.view_bytes() > 0);
            drop(view);
            assert!(fs::read(&path).expect("the file exists") == before, "the file is unchanged");
            completed += u32::from(acknowledged == 8);
            if completed == 2 {
                return;
            }
        }
    }
}

//! Database file: opening, checking, compacting and transactions.

use crate::{
    apply_writes::Tables,
    disk_format::{
        CONTENTS, DELIVERIES, FORMAT_VERSION, HISTORY, META, REJECTED_CONTENTS, REJECTIONS,
        SOURCES, decode_revision, decode_source,
    },
    error::{OpenError, StoreError},
    state_dir::{MovedAside, StateDir},
};
use redb::{
    Builder, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable as _, StorageError,
    WriteTransaction, backends::FileBackend,
};
use reloader_util::{panics, sync::RwLock};
use std::{fs::File, io::ErrorKind, sync::Arc};

/// Size of the database's own page cache, in bytes. The kernel caches the pages too.
const CACHE_BYTES: usize = 8 << 20;
/// Maximum size of a database of which every page is checked on open, in bytes. This takes a tenth of a
/// second. The pages of a larger database are checked after a crash, and when they are read.
const MAX_FULL_CHECK_BYTES: u64 = 256 << 20;
/// Minimum size of a database that is compacted, in bytes.
const MIN_COMPACTION_BYTES: u64 = 4 << 20;
/// Minimum ratio of the file size to the used size for compaction. A lower ratio is normal: values take up
/// to twice their size, and a new value is written beside the old one.
const MIN_COMPACTION_RATIO: u64 = 4;

/// Open, checked database.
#[derive(Debug)]
pub(crate) struct Database {
    database: redb::Database,
}

/// Database that the handles read and the writer thread writes. `None` while it is reopened after a
/// failure, and after closing.
pub(crate) type SharedDatabase = Arc<RwLock<Option<Database>>>;

/// Reason why a database file could not be loaded.
enum LoadError {
    /// The content is damaged or has another format version. The file is moved aside.
    Unusable(String),
    /// A system call failed.
    Io(std::io::Error),
}

impl Database {
    /// Opens the database, or creates it. Moves an unusable one aside.
    pub(crate) fn open(directory: &StateDir) -> Result<(Self, Option<MovedAside>), OpenError> {
        let Some(file) = directory.open_database()? else {
            return Ok((Self::create(directory)?, None));
        };
        let path = directory.database();
        let length = file
            .metadata()
            .map_err(|error| OpenError::Io { path: path.clone(), operation: "inspect", error })?
            .len();
        match catch_panic(|| load(file, length)) {
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
            Err(LoadError::Io(error)) => Err(OpenError::Io { path, operation: "read", error }),
        }
    }

    fn create(directory: &StateDir) -> Result<Self, OpenError> {
        let file = directory.create_new_file()?;
        let created = catch_panic(|| {
            let database = Self { database: open_file(file, false)? };
            database.write(|transaction| {
                transaction.open_table(META)?.insert("format", FORMAT_VERSION)?;
                Tables::open(transaction)?;
                Ok(())
            })?;
            Ok(database)
        });
        let database = created.map_err(|error| OpenError::Io {
            path: directory.database(),
            operation: "create",
            error: match error {
                LoadError::Io(error) => error,
                LoadError::Unusable(reason) => std::io::Error::other(reason),
            },
        })?;
        directory.publish_new_file()?;
        Ok(database)
    }

    /// Runs `action` in one transaction, which is durable when this returns. An error or a panic rolls the
    /// transaction back.
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

fn open_file(file: File, check_integrity: bool) -> Result<redb::Database, LoadError> {
    let backend = FileBackend::new(file).map_err(to_load_error)?;
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(check_integrity)
        .create_with_backend(backend)
        .map_err(to_load_error)
}

fn load(file: File, length: u64) -> Result<Database, LoadError> {
    if length == 0 {
        return Err(LoadError::Unusable("file is empty".into()));
    }
    let mut database = Database { database: open_file(file, length <= MAX_FULL_CHECK_BYTES)? };
    database.read(check)?;
    if length >= MIN_COMPACTION_BYTES {
        database.compact(length)?;
    }
    Ok(database)
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
            LoadError::Io(std::io::Error::other("already open in another program"))
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

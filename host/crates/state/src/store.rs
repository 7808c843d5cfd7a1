//! Handle to the state store: opening, writing, reading and closing.

use crate::{
    database::SharedDatabase,
    delivery_records,
    error::{OpenError, ReadError, StoreError, Unwritten},
    health::Health,
    history::{self, RevisionEntry},
    last_rejected_value::{self, RejectedEntry},
    restore::{self, RestoredSource, SourceSummary},
    retention_settings::Retention,
    state_dir::{MovedAside, StateDir},
    write_queue::{CLOSED, WriteQueue},
    write_request::{Delivery, Record, RejectedValue, Saved},
    writer::Writer,
};
use jiff::Timestamp;
use redb::ReadTransaction;
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_util::digest::Digest;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Time limit for writing the queue when the last handle is dropped.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// Handle to the state store. Cheap to clone. Dropping the last handle writes the queue.
///
/// Reads access files and block the calling thread, but never wait for the writer.
#[derive(Clone)]
pub struct State {
    handle: Arc<Handle>,
}

struct Handle {
    queue: Arc<WriteQueue>,
    database: SharedDatabase,
    path: PathBuf,
}

/// State directory that this process has locked, and whose database is not open yet.
#[derive(Debug)]
pub struct LockedDirectory(StateDir);

impl LockedDirectory {
    /// Creates the state directory if it does not exist, and locks it. Waits up to two seconds for another host to
    /// release the lock, and longer only if the file system does not answer.
    ///
    /// # Errors
    ///
    /// See [`State::open`].
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        StateDir::open(path).map(Self)
    }

    /// Opens the store, or creates it. Reads and checks the whole database: the time depends on its size.
    ///
    /// # Errors
    ///
    /// See [`State::open`].
    pub fn open(self, retention: Retention) -> Result<Opened, OpenError> {
        let Self(directory) = self;
        let path = directory.path().to_owned();
        let queue = Arc::new(WriteQueue::default());
        let (writer, moved_aside) = Writer::open(Arc::clone(&queue), directory, retention)?;
        let database = writer.database();
        writer.start().map_err(|error| {
            let operation = "start the writer thread for";
            OpenError::Io { path: path.clone(), operation, error }
        })?;
        Ok(Opened {
            state: State { handle: Arc::new(Handle { queue, database, path }) },
            moved_aside,
        })
    }
}

/// Result of [`State::open`].
#[derive(Debug)]
pub struct Opened {
    /// Handle to the store.
    pub state: State,
    /// Unusable database that was moved aside, if there was one. The store has already logged a warning.
    pub moved_aside: Option<MovedAside>,
}

impl State {
    /// Opens the store in `directory`, or creates it. Blocks the calling thread while the database is checked.
    ///
    /// # Errors
    ///
    /// Returns an error if another host uses the directory, if other users can write to it, or if a
    /// system call fails. An unusable database is not an error: it is moved aside. A full disk is not an error
    /// either: writes are retried, and [`health`](Self::health) has the reason.
    pub fn open(directory: &Path, retention: Retention) -> Result<Opened, OpenError> {
        LockedDirectory::lock(directory)?.open(retention)
    }

    /// Queues a revision of a source. Calls `completion` when the record is written, cannot be written, or
    /// is replaced. Usually the writer thread calls `completion`, so the callback must not block. The
    /// completions of a source are called in the order in which its records were queued.
    pub fn record(
        &self,
        source: &SourceName,
        record: Record,
        completion: impl FnOnce(Saved) + Send + 'static,
    ) {
        self.handle.queue.record(source, record, Box::new(completion));
    }

    /// Stores the pin of a source: the revision that the source was rolled back to, or `None` if its value is not
    /// pinned.
    pub fn pin(&self, source: &SourceName, to: Option<Revision>) {
        self.handle.queue.update(source, |writes| writes.pinned = Some(to));
    }

    /// Stores the delivery record of a sink: the revision and a digest that the sink chooses. The store
    /// keeps the records of the last 64 sinks of each source.
    pub fn record_delivery(
        &self,
        source: &SourceName,
        sink: &str,
        revision: Revision,
        digest: Digest,
    ) {
        let delivery = Delivery { at: Timestamp::now(), revision, digest };
        self.handle.queue.update(source, |writes| writes.deliver(sink, delivery));
    }

    /// Stores a rejected value for inspection by the operator. The store keeps the last one of each source.
    /// Content over one mebibyte is not stored.
    pub fn record_rejection(&self, source: &SourceName, rejected: RejectedValue) {
        self.handle.queue.update(source, |writes| writes.rejected = Some(rejected));
    }

    /// Sets the configured sources. The flag of a source is set if its values are secret. Deletes removed
    /// sources beyond [`Retention::keep_removed`] and [`Retention::max_removed`], and the stored values of
    /// sources that have become secret.
    pub fn set_configured(&self, sources: impl IntoIterator<Item = (SourceName, bool)>) {
        self.handle.queue.set_configured(sources.into_iter().collect());
    }

    /// Deletes all state of a source, including its revision number.
    pub fn forget(&self, source: &SourceName, completion: impl FnOnce(Saved) + Send + 'static) {
        self.handle.queue.forget(source, Box::new(completion));
    }

    /// Returns the stored state with which a source starts, or `None` for an unknown source.
    ///
    /// # Errors
    ///
    /// Returns an error if the state cannot be read, or if revisions were published while the file system did not
    /// answer and are not written yet.
    pub fn restore(&self, source: &SourceName) -> Result<Option<RestoredSource>, ReadError> {
        if let Some(reason) = self.handle.queue.unwritten_publications() {
            return Err(ReadError::Unavailable(reason));
        }
        self.read(|transaction| restore::restore(transaction, source))
    }

    /// Returns the digest of the last delivery to a sink of the source or group `name`.
    ///
    /// # Errors
    ///
    /// Returns an error if the delivery record cannot be read.
    pub fn last_delivery(
        &self,
        name: &SourceName,
        sink: &str,
    ) -> Result<Option<Digest>, ReadError> {
        self.read(|transaction| delivery_records::last_digest(transaction, name, sink))
    }

    /// Returns the stored revisions of a source, newest first.
    ///
    /// # Errors
    ///
    /// Returns an error if the history cannot be read.
    pub fn history(&self, source: &SourceName) -> Result<Vec<RevisionEntry>, ReadError> {
        self.read(|transaction| history::revisions(transaction, source))
    }

    /// Returns the value of a revision, without its cursor. Returns `None` if the revision is unknown, is
    /// a removal, or has no stored value.
    ///
    /// # Errors
    ///
    /// Returns an error if the value cannot be read.
    pub fn value(
        &self,
        source: &SourceName,
        revision: Revision,
    ) -> Result<Option<Snapshot>, ReadError> {
        let found = self.read(|transaction| history::revision(transaction, source, revision))?;
        Ok(found.and_then(|(_, value)| value))
    }

    /// Returns the last rejected value of a source.
    ///
    /// # Errors
    ///
    /// Returns an error if the record cannot be read.
    pub fn last_rejection(&self, source: &SourceName) -> Result<Option<RejectedEntry>, ReadError> {
        self.read(|transaction| last_rejected_value::last(transaction, source))
    }

    /// Returns all stored sources, including those no longer configured.
    ///
    /// # Errors
    ///
    /// Returns an error if the sources cannot be read.
    pub fn sources(&self) -> Result<Vec<SourceSummary>, ReadError> {
        self.read(restore::sources)
    }

    /// Runs `action` on a snapshot of the database.
    fn read<T>(
        &self,
        action: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, ReadError> {
        let database = self.handle.database.read();
        let Some(database) = &*database else {
            let failing = self.health().failing;
            let reason = failing.map_or_else(|| CLOSED.into(), |failing| failing.reason);
            return Err(ReadError::Unavailable(reason));
        };
        Ok(database.read(action)?)
    }

    /// Returns the health of the store.
    #[must_use]
    pub fn health(&self) -> Health {
        self.handle.queue.health()
    }

    /// Writes the queue and unlocks the directory, for all handles. Blocks until this is done.
    ///
    /// # Errors
    ///
    /// Returns an error if the queue could not be written within `timeout`. While writes fail, they are retried
    /// once, for at most a second.
    pub fn close(&self, timeout: Duration) -> Result<(), Unwritten> {
        let path = &self.handle.path;
        let closed = self.handle.queue.close(timeout);
        closed.map_err(|reason| Unwritten { path: path.clone(), reason })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // If the queue is closed, `close` has already waited for the writes.
        if !self.queue.is_closing()
            && let Err(reason) = self.queue.close(DROP_TIMEOUT)
        {
            let directory = self.path.display();
            tracing::warn!(%directory, error = %reason, "state store dropped with unwritten changes");
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("path", &self.handle.path).finish_non_exhaustive()
    }
}

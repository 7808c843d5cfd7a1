//! State store: the last good value of each source, its history and pin, and the delivery records of
//! sinks survive a restart.
//!
//! The store is one redb database in a directory that only its owner can access. A lock file ensures that
//! one host uses the directory at a time. The store is a crate of its own, so that its durability is
//! tested in isolation, with killed processes and full disks.
//!
//! ```
//! use reloader_engine::types::SourceName;
//! use reloader_state::{Settings, State};
//!
//! # let directory = tempfile::tempdir()?;
//! let opened = State::open(directory.path(), Settings::default())?;
//! assert!(opened.moved_aside.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Writes
//!
//! One writer thread owns all transactions. A caller queues a record with a callback
//! ([`State::record`]). The host publishes a value in that callback, so a crash never loses a value that
//! was delivered. The callbacks of a source run in the order of its calls.
//!
//! Writes are grouped: all queued small writes share one transaction and one `fsync` (group commit).
//! Each large value has a transaction of its own, and large values alternate with groups of small writes.
//! A small write therefore waits for at most one large value.
//!
//! The queue is bounded. When it is full, the newest record of a source replaces the queued one before it
//! ([`Saved::Replaced`]). The replaced value is not published and its revision is skipped. Revisions
//! still only increase, so no reader sees an older value after a newer one.
//!
//! A full or failing disk does not block publishing. The callbacks receive [`Saved::NotDurable`], and the
//! newest value of each source is written when the disk works again.
//!
//! # Damage
//!
//! A database that is damaged, or has a newer format version, is moved aside ([`MovedAside`]), and an
//! empty one takes its place. The database is checked when it is opened. Each value is compared with
//! its digest when it is read.

mod batch;
mod database;
mod error;
mod read;
mod record;
mod records;
mod settings;
mod state_dir;
mod tables;
mod write_set;
mod writer;

pub use error::{OpenError, ReadError};
pub use read::{
    DeliveryRecord, HistoryEvent, RejectedEntry, RestoredSource, RevisionEntry, SourceSummary,
};
pub use record::{Record, RejectedValue, Saved};
pub use reloader_util::digest::{Digest, ParseDigestError};
pub use settings::Settings;
pub use state_dir::MovedAside;
pub use writer::{Health, WriteFailure};

use database::Database;
use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot, SourceName};
use state_dir::StateDir;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use write_set::Delivery;
use writer::WriteQueue;

/// Time for queued writes when the last handle is dropped.
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
    path: PathBuf,
}

/// Result of [`State::open`].
#[derive(Debug)]
pub struct Opened {
    /// Handle to the store.
    pub state: State,
    /// Unusable database that was moved aside, if there was one. The store has logged it.
    pub moved_aside: Option<MovedAside>,
}

/// Error of [`State::close`]: some queued writes did not reach the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state store {} closed with unwritten changes: {reason}", path.display())]
pub struct Unwritten {
    /// State directory.
    pub path: PathBuf,
    /// Reason of the failure.
    pub reason: Arc<str>,
}

impl State {
    /// Opens the store in `directory`, or creates it. Reads and checks the whole database, which may take
    /// a moment.
    ///
    /// # Errors
    ///
    /// Returns an error if another host uses the directory, if other users can write to it, or if a
    /// system call fails. An unusable database is not an error: it is moved aside.
    pub fn open(directory: &Path, settings: Settings) -> Result<Opened, OpenError> {
        let path = directory.to_owned();
        let directory = StateDir::open(&path)?;
        let (database, moved_aside) = Database::open(&directory)?;
        let operation = "start the writer thread for";
        let queue = WriteQueue::start(directory, database, settings)
            .map_err(|error| OpenError::Io { path: path.clone(), operation, error })?;
        Ok(Opened { state: Self { handle: Arc::new(Handle { queue, path }) }, moved_aside })
    }

    /// Queues a revision of a source. Calls `completion` when the record is written, cannot be written, or
    /// is replaced. The writer thread usually calls it, for each source in the order of the calls, so it
    /// must not block.
    pub fn record(
        &self,
        source: &SourceName,
        record: Record,
        completion: impl FnOnce(Saved) + Send + 'static,
    ) {
        self.handle.queue.record(source, record, Box::new(completion));
    }

    /// Stores whether the current value is pinned, and the revision it was rolled back to.
    pub fn pin(&self, source: &SourceName, to: Option<Revision>) {
        self.handle.queue.update(source, |write_set| write_set.pinned = Some(to));
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
        self.handle.queue.update(source, |write_set| write_set.deliver(sink, delivery));
    }

    /// Stores a rejected value for inspection by the operator. The store keeps the last one of each source.
    /// Content over one mebibyte is not stored.
    pub fn record_rejection(&self, source: &SourceName, rejected: RejectedValue) {
        self.handle.queue.update(source, |write_set| write_set.rejected = Some(rejected));
    }

    /// Sets the configured sources, each with whether its values are secret. Deletes sources that were
    /// removed from the configuration long ago ([`Settings::keep_removed`]), and stored values of sources
    /// that have become secret.
    pub fn set_configured(&self, sources: impl IntoIterator<Item = (SourceName, bool)>) {
        self.handle.queue.set_configured(sources.into_iter().collect());
    }

    /// Deletes all state of a source, including its revision number.
    pub fn forget(&self, source: &SourceName, completion: impl FnOnce(Saved) + Send + 'static) {
        self.handle.queue.forget(source, Box::new(completion));
    }

    /// Returns the state that a source restarts from, or `None` for an unknown source.
    ///
    /// # Errors
    ///
    /// Returns an error if the state cannot be read.
    pub fn restore(&self, source: &SourceName) -> Result<Option<RestoredSource>, ReadError> {
        self.handle.queue.read(|transaction| read::restore(transaction, source))
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
        self.handle.queue.read(|transaction| read::last_delivery(transaction, name, sink))
    }

    /// Returns the stored revisions of a source, newest first.
    ///
    /// # Errors
    ///
    /// Returns an error if the history cannot be read.
    pub fn history(&self, source: &SourceName) -> Result<Vec<RevisionEntry>, ReadError> {
        self.handle.queue.read(|transaction| read::history(transaction, source))
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
        self.handle.queue.read(|transaction| read::value(transaction, source, revision))
    }

    /// Returns the last rejected value of a source.
    ///
    /// # Errors
    ///
    /// Returns an error if the record cannot be read.
    pub fn last_rejection(&self, source: &SourceName) -> Result<Option<RejectedEntry>, ReadError> {
        self.handle.queue.read(|transaction| read::last_rejection(transaction, source))
    }

    /// Returns all stored sources, including those no longer configured.
    ///
    /// # Errors
    ///
    /// Returns an error if the sources cannot be read.
    pub fn sources(&self) -> Result<Vec<SourceSummary>, ReadError> {
        self.handle.queue.read(read::sources)
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
    /// Returns an error if the queue could not be written within `timeout`.
    pub fn close(&self, timeout: Duration) -> Result<(), Unwritten> {
        let path = &self.handle.path;
        let closed = self.handle.queue.close(timeout);
        closed.map_err(|reason| Unwritten { path: path.clone(), reason })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(reason) = self.queue.close(DROP_TIMEOUT) {
            let directory = self.path.display();
            tracing::warn!(%directory, error = %reason, "state store closed with unwritten changes");
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("path", &self.handle.path).finish_non_exhaustive()
    }
}

//! State that survives a restart: the last good value of each source, its history and pin, and the delivery
//! records of sinks. One database (redb) in a directory that only its owner can use; one host uses it at a time.
//!
//! A crate of its own, because durability is tested here alone, with killed processes and full disks.
//!
//! ```
//! use reloader_engine::types::SourceName;
//! use reloader_state::{Settings, State};
//!
//! # let directory = tempfile::tempdir()?;
//! let opened = State::open(directory.path(), Settings::default())?;
//! assert!(opened.set_aside.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Writing
//!
//! One thread writes. Who has something to remember hands it over ([`State::record`]) with what is to
//! follow, and goes on: the host publishes a value only then, so that nothing is delivered that a crash
//! would forget. All that waits goes into one transaction, with one `fsync`, but large values, which have one
//! each, in turns with what is small: nobody waits for more than one of them. For each source what
//! follows is called in the order in which it was handed over.
//!
//! What waits is bounded. When too much does, the newest value of a source takes the place of the one
//! before it: [`Saved::Replaced`]. That one is not published, its revision is left out, and the next one
//! is higher as ever; so no reader sees an older value after a newer one.
//!
//! A disk that is full, or fails, keeps no value from being published: what follows is told so
//! ([`Saved::NotDurable`]), and the newest value of each source is written when the disk works again.
//!
//! # What is found
//!
//! A database that is damaged, or of a newer format, is set aside under another name ([`SetAside`]), and
//! begun anew. It is checked as a whole when it is opened, and each value by its digest when it is read.

mod batch;
mod database;
mod error;
mod read;
mod records;
mod settings;
mod state_dir;
mod write_set;
mod writer;

pub use error::{OpenError, ReadError};
pub use read::{Delivered, Entry, Happening, RefusedEntry, Resumed, Summary};
pub use reloader_util::digest::{Digest, ParseDigestError};
pub use settings::Settings;
pub use state_dir::SetAside;
pub use writer::{Failing, Health};

use database::Book;
use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot, SourceName};
use state_dir::Directory;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use write_set::Delivery;
use writer::Shared;

/// A last handle that is dropped waits this long for what is still to be written.
const DROPPED: Duration = Duration::from_secs(2);

/// What survives a restart. Cheap to clone; what is handed over is written when the last one is dropped,
/// at the latest.
///
/// Looking something up reads files, and blocks for as long as that takes; it waits for no writer.
#[derive(Clone)]
pub struct State {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    path: PathBuf,
}

/// A state that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The state.
    pub state: State,
    /// What was found and could not be used, if that is so. It has been logged as well.
    pub set_aside: Option<SetAside>,
}

/// A revision of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number. Where a higher one is known already, it becomes the next one after that.
    pub revision: Revision,
    /// The value; `None`: there is none any more.
    pub value: Option<Snapshot>,
    /// When it came to be.
    pub at: Timestamp,
    /// If it is the value of an older revision, which somebody went back to: that one. From then on it is
    /// pinned, until the next record, or [`State::pin`].
    pub rolled_back_to: Option<Revision>,
    /// Whether the value must not be stored. Those before it are deleted then.
    pub secret: bool,
}

impl Record {
    /// A revision of now.
    #[must_use]
    pub fn new(revision: Revision, value: Option<Snapshot>) -> Self {
        Self { revision, value, at: Timestamp::now(), rolled_back_to: None, secret: false }
    }

    fn size(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.content.len())
    }
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// It is on disk: no crash forgets it.
    Durable,
    /// The disk does not take it now, for this reason. It is to be published all the same.
    NotDurable(Arc<str>),
    /// A newer one of the same source has taken its place while it waited. It is not to be published.
    Replaced,
}

/// A value that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The value.
    pub value: Snapshot,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Whether neither the value nor the reason, which may quote it, must be stored.
    pub secret: bool,
}

/// Not all was written before the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not all of the state in {} was written: {reason}", path.display())]
pub struct Unwritten {
    /// The state's directory.
    pub path: PathBuf,
    /// Why not.
    pub reason: Arc<str>,
}

impl State {
    /// Opens the state in this directory, or begins one. Reads all of it, and may take a moment.
    ///
    /// # Errors
    ///
    /// When another host uses it, when others may write to the directory, or when the system refuses
    /// something. That what is there cannot be used is none: it is set aside.
    pub fn open(directory: &Path, settings: Settings) -> Result<Opened, OpenError> {
        let path = directory.to_owned();
        let directory = Directory::open(&path)?;
        let (book, set_aside) = Book::open(&directory)?;
        let doing = "starting the thread that writes it";
        let shared = Shared::start(directory, book, settings).map_err(|error| OpenError::Io {
            path: path.clone(),
            doing,
            error,
        })?;
        Ok(Opened { state: Self { handle: Arc::new(Handle { shared, path }) }, set_aside })
    }

    /// Remembers a revision of a source. What follows is called when that is done, or will not be: mostly
    /// by the thread that writes, for each source in the order of the calls, and it must not block.
    pub fn record(
        &self,
        source: &SourceName,
        record: Record,
        then: impl FnOnce(Saved) + Send + 'static,
    ) {
        self.handle.shared.record(source, record, Box::new(then));
    }

    /// Remembers whether the present value is pinned, and which revision it was rolled back to.
    pub fn pin(&self, source: &SourceName, to: Option<Revision>) {
        self.handle.shared.add(source, |work| work.pinned = Some(to));
    }

    /// Remembers what a sink has got. The digest is the sink's own affair. For each source the last 64
    /// sinks are known.
    pub fn delivered(&self, source: &SourceName, sink: &str, revision: Revision, digest: Digest) {
        let delivery = Delivery { at: Timestamp::now(), revision, digest };
        self.handle.shared.add(source, |work| work.deliver(sink, delivery));
    }

    /// Remembers what was refused, for people to look at: the last one of each source, with its content
    /// up to a mebibyte.
    pub fn refused(&self, source: &SourceName, refusal: Rejection) {
        self.handle.shared.add(source, |work| work.refused = Some(refusal));
    }

    /// Says which sources are configured now, and whether their values are secret. Those that have not
    /// been for long are forgotten, as the settings say; values that have become secret are deleted.
    pub fn configured(&self, sources: impl IntoIterator<Item = (SourceName, bool)>) {
        self.handle.shared.configured(sources.into_iter().collect());
    }

    /// Forgets all that is known of a source, its revision as well.
    pub fn forget(&self, source: &SourceName, then: impl FnOnce(Saved) + Send + 'static) {
        self.handle.shared.forget(source, Box::new(then));
    }

    /// What a source goes on from; `None` for one that is not known.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn resume(&self, source: &SourceName) -> Result<Option<Resumed>, ReadError> {
        self.handle.shared.read(|transaction| read::resume(transaction, source))
    }

    /// What a sink of a source, or of whatever it was named with, has got last.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn delivered_to(&self, of: &SourceName, sink: &str) -> Result<Option<Digest>, ReadError> {
        self.handle.shared.read(|transaction| read::delivered_to(transaction, of, sink))
    }

    /// The revisions of a source that are known, the newest first.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn history(&self, source: &SourceName) -> Result<Vec<Entry>, ReadError> {
        self.handle.shared.read(|transaction| read::history(transaction, source))
    }

    /// The value of a revision, without its cursor; `None`: it is not known, was a removal, or its value
    /// was not stored.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn value(
        &self,
        source: &SourceName,
        revision: Revision,
    ) -> Result<Option<Snapshot>, ReadError> {
        self.handle.shared.read(|transaction| read::value(transaction, source, revision))
    }

    /// What was refused last of a source.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn last_refused(&self, source: &SourceName) -> Result<Option<RefusedEntry>, ReadError> {
        self.handle.shared.read(|transaction| read::refused(transaction, source))
    }

    /// All sources that are known, whether they are configured or not.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn sources(&self) -> Result<Vec<Summary>, ReadError> {
        self.handle.shared.read(read::sources)
    }

    /// Whether it can be written, and how often it was.
    #[must_use]
    pub fn health(&self) -> Health {
        self.handle.shared.health()
    }

    /// Writes what waits, and lets go of the directory; for all handles. Blocks until that is done.
    ///
    /// # Errors
    ///
    /// When not all of it could be written in this time.
    pub fn close(&self, within: Duration) -> Result<(), Unwritten> {
        let path = &self.handle.path;
        let closed = self.handle.shared.close(within);
        closed.map_err(|reason| Unwritten { path: path.clone(), reason })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(reason) = self.shared.close(DROPPED) {
            tracing::warn!("not all of the state in {} was written: {reason}", self.path.display());
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("path", &self.handle.path).finish_non_exhaustive()
    }
}

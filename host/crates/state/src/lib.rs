//! State store: the last good value of each source, its history and pin, and the delivery records of
//! sinks survive a restart.
//!
//! The store is one redb database in a directory to which only its owner can write. A lock file ensures that
//! one host uses the directory at a time. The store is a crate of its own, so that its durability is
//! tested in isolation, with killed processes and full disks.
//!
//! ```
//! use reloader_engine::types::SourceName;
//! use reloader_state::{Retention, State};
//!
//! # let directory = tempfile::tempdir()?;
//! let opened = State::open(directory.path(), Retention::default())?;
//! assert!(opened.moved_aside.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Writes
//!
//! One writer thread owns all transactions. A caller queues a record with a callback
//! ([`State::record`]). The writer thread calls the callback after the write, and the host publishes the
//! value in the callback, so a crash loses no published value while the disk works. The callbacks of a
//! source run in the order in which its records were queued.
//!
//! Writes are grouped: all queued small writes share one transaction and one `fsync` (group commit).
//! Each large value has a transaction of its own, and large values alternate with groups of small writes.
//! A small write therefore waits for at most one large value.
//!
//! The queue is bounded. When it is full, a new record of a source replaces the newest queued record of
//! that source ([`Saved::Replaced`]). The replaced value is not published and its revision is skipped.
//! Revisions still only increase, so no reader sees an older value after a newer one.
//!
//! A full or failing disk does not block publishing. The callbacks receive [`Saved::NotDurable`], and the
//! newest value of each source is written when the disk works again. Meanwhile, reads return the last stored state
//! together with the unwritten changes. The revisions of the published values are recorded in a preallocated file,
//! which is overwritten in place, so that no revision is used twice after a crash.
//!
//! A file system that does not answer for 10 seconds counts as a failure, too. Until it answers, the callbacks receive
//! [`Saved::NotDurable`] at once, and the queue keeps the newest changes of each source. The published revisions cannot
//! be recorded then, so that they are used again if the host is killed before the file system answers.
//!
//! If the state directory, the lock file or the database is removed while the store is open, the writer thread creates
//! it again. The content of a removed database is copied from the open file.
//!
//! # Damage
//!
//! A database that is damaged, or has another format version, is renamed ([`MovedAside`]), and the store
//! creates an empty one. The database is checked when it is opened. Each value is compared with
//! its digest when it is read.

mod apply_writes;
mod database;
mod delivery_records;
mod disk_format;
mod error;
mod group_commit;
mod health;
mod history;
mod last_rejected_value;
mod lock_holder;
mod overlay_backend;
mod queued_source_writes;
mod restore;
mod retention_settings;
mod state_dir;
mod store;
mod unstored_revisions;
mod write_queue;
mod write_request;
mod writer;

pub use delivery_records::DeliveryRecord;
pub use error::{OpenError, ReadError, Unwritten};
pub use health::{Health, WriteFailure};
pub use history::{HistoryEvent, RevisionEntry};
pub use last_rejected_value::RejectedEntry;
pub use lock_holder::LockHolder;
pub use reloader_util::digest::{Digest, ParseDigestError};
pub use restore::{RestoredSource, SourceSummary};
pub use retention_settings::Retention;
pub use state_dir::MovedAside;
pub use store::{LockedDirectory, Opened, State};
pub use write_request::{Record, RejectedValue, Saved};

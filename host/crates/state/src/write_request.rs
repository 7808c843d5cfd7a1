//! Write requests of the callers: revisions, deliveries and rejected values, and the outcome of a write.

use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot};
use reloader_util::digest::Digest;
use std::sync::Arc;

/// Callback that receives the outcome of a write.
pub(crate) type Completion = Box<dyn FnOnce(Saved) + Send>;

/// Record to store: a revision of a source, with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Revision number. If the store already has this or a higher revision, the record gets the next
    /// free number.
    pub revision: Revision,
    /// Value, or `None` if the source has no value.
    pub value: Option<Snapshot>,
    /// Time at which the value was published.
    pub at: Timestamp,
    /// Older revision whose value this record restores, if it is a rollback. The value stays pinned until
    /// the next record of the source, or until [`State::pin`](crate::State::pin) changes the pin.
    pub rolled_back_to: Option<Revision>,
    /// Set if the value must not be stored. Stored values of earlier revisions are then deleted.
    pub secret: bool,
}

impl Record {
    /// Creates a record with the current time.
    #[must_use]
    pub fn new(revision: Revision, value: Option<Snapshot>) -> Self {
        Self { revision, value, at: Timestamp::now(), rolled_back_to: None, secret: false }
    }

    /// Returns the size of the content, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.content.len())
    }
}

/// Outcome of writing a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// The record is on disk and survives a crash.
    Durable,
    /// The record could not be written, for this reason. The caller publishes the value anyway.
    NotDurable(Arc<str>),
    /// A newer record of the same source replaced this one in the queue. The caller does not publish the
    /// value.
    Replaced,
}

/// Delivery of a revision to a sink, which is to be recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery {
    pub(crate) at: Timestamp,
    pub(crate) revision: Revision,
    pub(crate) digest: Digest,
}

/// Value that a validator rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedValue {
    /// Rejected value.
    pub value: Snapshot,
    /// Reason for the rejection.
    pub reason: String,
    /// Time of the rejection.
    pub at: Timestamp,
    /// Set if the value and the reason must not be stored. A reason may quote the value.
    pub secret: bool,
}

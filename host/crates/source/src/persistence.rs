//! Persistence of values over a restart: a value is stored before it is published, and restored at the start.

use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot};
use std::fmt;

/// Value or removal that is about to be published.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Revision under which the value or removal is published.
    pub revision: Revision,
    /// Value; `None` for a removal.
    pub value: Option<Snapshot>,
    /// Time of the publication.
    pub at: Timestamp,
}

/// Stores each value before it is published, so that a crash never loses a delivered value.
pub trait Persistence: fmt::Debug + Send + Sync + 'static {
    /// Stores a publication, and calls `then` when it is stored: immediately or later, in the order of the
    /// calls of this function. If a newer publication has replaced this one, `then` may be dropped uncalled.
    fn store(&self, publication: Publication, then: Box<dyn FnOnce() + Send>);

    /// Stores a rejected value with the reason, for inspection by the operator. The default implementation stores
    /// nothing.
    fn rejected(&self, value: &Snapshot, reason: &str) {
        let _ = (value, reason);
    }
}

/// Last stored publication of a source, with which the source resumes after a restart.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// Last revision. The next publication has a higher one.
    pub revision: Revision,
    /// Last good value. `None` if the source had none, or if its values are not stored.
    pub value: Option<Snapshot>,
    /// Set if the last publication was a removal.
    pub removed: bool,
    /// Time of the publication.
    pub at: Timestamp,
    /// Set if the value is pinned: it stays published whatever the source reports.
    pub pinned: bool,
}

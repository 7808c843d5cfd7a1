//! What survives a restart of the program: kept before it is published, and taken up again at the start.

use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot};
use std::fmt;

/// What is about to be published.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Its number.
    pub revision: Revision,
    /// The value; `None`: there is none any more.
    pub value: Option<Snapshot>,
    /// When it was let through.
    pub at: Timestamp,
}

/// Keeps what is about to be published, so that nothing is delivered that a crash would forget.
pub trait Persistence: fmt::Debug + Send + Sync + 'static {
    /// Keeps this, and calls `then` as soon as that is done: at once, or later, but in the order of the
    /// calls. If there is something newer by then, `then` need not be called.
    fn keep(&self, publication: Publication, then: Box<dyn FnOnce() + Send>);

    /// Keeps what was not let through, for people to look at. By itself it keeps nothing.
    fn refused(&self, value: &Snapshot, reason: &str) {
        let _ = (value, reason);
    }
}

/// What was kept of a source.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// The last one; the next is higher.
    pub revision: Revision,
    /// The last good value, if there was one, and it was kept.
    pub value: Option<Snapshot>,
    /// Whether there was none.
    pub removed: bool,
    /// When it was published.
    pub at: Timestamp,
    /// Whether it is to stay, whatever the source says.
    pub pinned: bool,
}

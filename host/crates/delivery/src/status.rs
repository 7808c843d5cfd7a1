//! How a sink is.

use jiff::Timestamp;
use reloader_engine::types::{Revision, SourceName};
use std::sync::Arc;

/// How a sink is, for those who look after it.
#[derive(Debug, Clone, Default)]
pub struct SinkStatus {
    /// What it is doing.
    pub state: SinkState,
    /// The revision that is there; of several sources, the first one's.
    pub delivered: Option<Revision>,
    /// The revision of each source that is there.
    pub revisions: Vec<(SourceName, Revision)>,
    /// Since when.
    pub at: Option<Timestamp>,
    /// How often something was different afterwards. Goes up with each change that a program which uses
    /// the values should be told of.
    pub changes: u64,
    /// How often all was there in the end.
    pub succeeded: u64,
    /// How often a try failed.
    pub failed: u64,
    /// How many of all tries came after one of the same values that had failed.
    pub retried: u64,
    /// Why the newest values are not there, if they should be.
    pub failing: Option<Arc<str>>,
    /// How often that has been tried.
    pub attempts: u32,
    /// When it is tried again.
    pub next_try: Option<Timestamp>,
}

/// What a sink is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SinkState {
    /// It waits for the first value of these sources.
    Waiting(Vec<SourceName>),
    /// Values are coming in; it waits until they pause.
    Settling,
    /// It is delivering.
    Delivering,
    /// All is delivered.
    #[default]
    Done,
    /// It has failed, and tries again.
    Retrying,
    /// It has failed, and waits for other values.
    GivenUp,
    /// Its sources have been stopped, or it has itself.
    Stopped,
}

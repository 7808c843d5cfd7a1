//! Status of a sink.

use crate::sink::FileContent;
use jiff::Timestamp;
use reloader_engine::types::{Revision, SourceName};
use std::sync::Arc;

/// Status of a sink, for health checks, metrics and the API.
#[derive(Debug, Clone, Default)]
pub struct SinkStatus {
    /// Current activity of the sink.
    pub state: SinkState,
    /// Revision of the first source that was delivered last.
    pub delivered: Option<Revision>,
    /// Revision of each source that was delivered last.
    pub revisions: Vec<(SourceName, Revision)>,
    /// Time of the last successful delivery.
    pub at: Option<Timestamp>,
    /// Number of deliveries that changed the target. The host notifies the program of `[command]` when this
    /// counter increases.
    pub changes: u64,
    /// Number of repairs: deliveries that wrote a file again after another program had changed it. Repairs also
    /// count as `changes`.
    pub repairs: u64,
    /// Content of the file that the sink writes; `None` before the first delivery, and for a sink that writes no file.
    pub content: Option<FileContent>,
    /// Number of successful deliveries.
    pub succeeded: u64,
    /// Number of failed attempts.
    pub failed: u64,
    /// Number of retries: attempts to deliver the same values again after a failed attempt.
    pub retried: u64,
    /// Reason of the last failure, until a delivery succeeds.
    pub failing: Option<Arc<str>>,
    /// Number of failed attempts to deliver the current values.
    pub attempts: u32,
    /// Time of the next attempt, if one is scheduled.
    pub next_try: Option<Timestamp>,
}

/// Activity of a sink.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SinkState {
    /// Waiting for the first value of these sources.
    Waiting(Vec<SourceName>),
    /// Debouncing: waiting for the end of a burst of changes.
    Settling,
    /// Delivering.
    Delivering,
    /// All values are delivered.
    #[default]
    Done,
    /// The delivery failed, and a retry is scheduled.
    Retrying,
    /// The delivery failed, and no retry is scheduled until the values change.
    GivenUp,
    /// The worker or its sources have stopped.
    Stopped,
}

//! Data of a server-sent event: the status of a source after a change.

use crate::source_status::SinkReport;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Event: status of a source after a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Name of the source.
    pub source: String,
    /// State of the source: `current`, `stale`, `waiting`, `removed` or `ended`, as in the status of a source.
    pub state: String,
    /// Number of the current revision; 0 before the first value.
    pub revision: u64,
    /// Time at which the current revision was published; `null` before the first value.
    pub at: Option<Timestamp>,
    /// Earlier revision that a rollback has restored, while the source is pinned to its value; `null` if the source
    /// is not pinned. The restored value has a new `revision`.
    pub pinned: Option<u64>,
    /// `ETag` of the current value; `null` if the source has no value or its values are not readable.
    pub etag: Option<String>,
    /// Size of the current value, in bytes; `null` if the source has no value or its values are not readable.
    pub size: Option<u64>,
    /// Human-readable description of the current error; `null` if there is none.
    pub error: Option<String>,
    /// Sinks of the source.
    pub sinks: Vec<SinkReport>,
}

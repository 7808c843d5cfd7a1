//! Counters of sources and sinks, for metrics.

use reloader_api_types::SourceStatus;
use reloader_source::{latest_value::SourceState, metrics::Counts, provider::Confinement};

/// Snapshot of the status and the counters of a source, for metrics.
#[derive(Debug, Clone)]
pub struct SourceCounts {
    /// Status, as in the API.
    pub status: SourceStatus,
    /// Set if clients of the API may read the values of the source.
    pub readable: bool,
    /// Current revision, value and staleness.
    pub state: SourceState,
    /// Counters since the start of the host.
    pub counts: Counts,
    /// Grants, denials and memory of the plugin.
    pub confinement: Confinement,
}

/// Snapshot of the counters of a sink, since the sink started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkCounts {
    /// Name of the source or group that the sink belongs to.
    pub owner: String,
    /// Name of the sink.
    pub name: String,
    /// Number of deliveries that succeeded.
    pub succeeded: u64,
    /// Number of delivery attempts that failed.
    pub failed: u64,
    /// Number of delivery attempts that repeated a failed attempt with the same values.
    pub retried: u64,
    /// Set if the last attempt to deliver the newest values failed.
    pub is_failing: bool,
}

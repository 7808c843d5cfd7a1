//! Status types of a running host: its phase, and the counters of its sources and sinks.

use reloader_api_types::SourceStatus;
use reloader_source::{metrics::Counts, provider::Confinement, store::SourceState};

/// Phase of a running host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// The host keeps its sources current.
    #[default]
    Running,
    /// The host keeps its sources current and reloads its configuration.
    Reloading,
    /// The host is shutting down.
    Stopping,
}

/// Status and counters of a source.
#[derive(Debug, Clone)]
pub struct SourceCounts {
    /// Status, as in the API.
    pub status: SourceStatus,
    /// Whether clients of the API may read the values of the source.
    pub readable: bool,
    /// Current revision, value and staleness.
    pub state: SourceState,
    /// Counters since the start of the host.
    pub counts: Counts,
    /// Grants, denials and memory of the plugin.
    pub confinement: Confinement,
}

/// Counters of a sink since its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkCounts {
    /// Name of the source or group that the sink belongs to.
    pub of: String,
    /// Name of the sink.
    pub name: String,
    /// Number of deliveries that succeeded.
    pub succeeded: u64,
    /// Number of delivery attempts that failed.
    pub failed: u64,
    /// Number of delivery attempts that repeated a failed attempt with the same values.
    pub retried: u64,
    /// Whether the last attempt to deliver the newest values failed.
    pub is_failing: bool,
}

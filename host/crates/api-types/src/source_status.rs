//! Status of sources, groups and sinks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Sources and groups that the caller may access: one page of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sources {
    /// Sources, sorted by name.
    pub sources: Vec<ListedSource>,
    /// Groups of sources whose values are delivered together to the sinks of the group. Only the first page lists them.
    pub groups: Vec<GroupStatus>,
    /// Error of the configuration file, if the last reload failed and the previous configuration stays in
    /// effect; otherwise `null`.
    #[serde(default)]
    pub config_error: Option<String>,
    /// Value of the parameter `after` for the next page; `null` on the last page.
    #[serde(default)]
    pub next: Option<String>,
}

/// Source in the list of all sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ListedSource {
    /// Status of the source.
    #[serde(flatten)]
    pub status: SourceStatus,
    /// Number of changes of the value in each of the last 60 minutes, oldest first. The last entry is the
    /// current minute.
    pub activity: Vec<u32>,
}

/// Status of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SourceStatus {
    /// Name of the source.
    pub name: String,
    /// Plugin of the source, as the configuration names it.
    pub plugin: String,
    /// State of the source: `current` (the value is up to date), `stale` (the value may be outdated), `waiting`
    /// (no value yet), `removed` (the source no longer has a value), or `ended` (the source cannot work with
    /// its configuration, and is not retried).
    pub state: String,
    /// Earlier revision that a rollback has restored, while the source is pinned to its value; `null` if the source
    /// is not pinned. The restored value has a new `revision`.
    pub pinned: Option<u64>,
    /// Number of the current revision. It increases with each new value; 0 before the first value.
    pub revision: u64,
    /// Time at which the current revision was published; `null` before the first value.
    pub at: Option<Timestamp>,
    /// Time at which the source last confirmed that the value is up to date; `null` if it never did.
    pub last_success_at: Option<Timestamp>,
    /// Human-readable description of the current error; `null` if there is none.
    pub error: Option<String>,
    /// Sinks of the source.
    pub sinks: Vec<SinkReport>,
}

/// Detailed status of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SourceDetail {
    /// Status of the source.
    #[serde(flatten)]
    pub status: SourceStatus,
    /// Update strategy: `polling`, `realtime` (watch), or `hybrid` (watch, with polling as fallback).
    pub strategy: String,
    /// `true` if the configuration allows clients to read the values of the source.
    pub readable: bool,
    /// Media type of the current value; `null` if the source reports none, has no value, or its values are
    /// not readable.
    pub media_type: Option<String>,
    /// Size of the current value, in bytes; `null` if the source has no value or its values are not readable.
    pub size: Option<u64>,
    /// Grants of the plugin in effect, such as `read app.toml`.
    pub granted: Vec<String>,
    /// Accesses that the plugin was denied, and rate limits that it exceeded, since the last start of the
    /// source, or the last change of its settings or plugin.
    pub denied: Vec<DeniedAccess>,
    /// Number of changes of the value in each of the last 60 minutes, oldest first. The last entry is the
    /// current minute.
    pub activity: Vec<u32>,
    /// Counters of the source since the host started.
    pub counters: SourceCounters,
}

/// Access that a plugin was denied, or rate limit that it exceeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeniedAccess {
    /// Denied access with the reason and the grant that would allow it, or an exceeded rate limit. After 16 different
    /// entries, all further denials are counted in the entry `other denials`.
    pub description: String,
    /// Number of occurrences.
    pub count: u64,
}

/// Counters of a source since the host started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SourceCounters {
    /// Number of published values.
    pub changes: u64,
    /// Number of published removals of the value.
    pub removals: u64,
    /// Number of values that validation rejected.
    pub rejected_values: u64,
    /// Number of reads, failed ones included.
    pub reads: u64,
    /// Number of failed reads.
    pub read_failures: u64,
    /// Number of attempts to open a watch, failed ones included.
    pub watches: u64,
    /// Number of failed watches.
    pub watch_failures: u64,
    /// Number of crashes of the plugin.
    pub crashes: u64,
    /// Number of accesses that the plugin was denied, and of rate limits that it exceeded.
    pub denied_accesses: u64,
    /// CPU time that the plugin used, in seconds.
    pub cpu_seconds: f64,
    /// Linear memory that the instances of the plugin use now, in bytes.
    pub memory: u64,
    /// Mean time from the first watch event of a change to the publication of the new value, in seconds; `null` before
    /// the first change that a watch reported.
    pub reaction_seconds: Option<f64>,
}

/// Status of a group of sources whose values are delivered together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupStatus {
    /// Name of the group.
    pub name: String,
    /// Names of the sources.
    pub sources: Vec<String>,
    /// Sinks of the group.
    pub sinks: Vec<SinkReport>,
}

/// Status of a sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SinkReport {
    /// Name of the sink.
    pub name: String,
    /// Revision that the sink delivered last; for a sink of a group, the revision of the first source of the group.
    /// `null` before the first delivery.
    pub revision: Option<u64>,
    /// Human-readable description of the current error; `null` if there is none.
    pub error: Option<String>,
}

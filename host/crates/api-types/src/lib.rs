//! JSON types of the HTTP API and of the control socket. The server serialises them and the client deserialises
//! them.
//!
//! The server and the client share only this crate, so neither of them depends on the other.
//!
//! ```
//! use reloader_api_types::Problem;
//!
//! let json = r#"{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "unknown source `a`"}"#;
//! let problem: Problem = serde_json::from_str(json)?;
//! assert_eq!(problem.status, 404);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Features
//!
//! - `openapi`: implements `utoipa::ToSchema` for each type. The doc comments become the descriptions in the
//!   OpenAPI document. Off by default.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Status of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SourceStatus {
    /// Name of the source.
    pub name: String,
    /// Plugin of the source, as the configuration names it.
    pub plugin: String,
    /// State of the source: `current` (the value is up to date), `stale` (the value may be outdated), `waiting`
    /// (no value yet), `removed` (the source no longer has a value), or `ended` (permanent failure: the source
    /// cannot work with its present configuration).
    pub state: String,
    /// Revision to which the source is pinned by a rollback; `null` if it is not pinned.
    pub pinned: Option<u64>,
    /// Number of the current revision. It increases with each new value; 0 before the first value.
    pub revision: u64,
    /// Time at which the current revision was published; `null` before the first value.
    pub at: Option<Timestamp>,
    /// Time at which the source last confirmed that the value is up to date; `null` if it never did.
    pub last_success_at: Option<Timestamp>,
    /// Human-readable description of the current problem; `null` if there is none.
    pub trouble: Option<String>,
    /// Sinks of the source.
    pub sinks: Vec<SinkReport>,
}

/// Status of a sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SinkReport {
    /// Name of the sink.
    pub name: String,
    /// Revision that the sink delivered last; `null` before the first delivery.
    pub revision: Option<u64>,
    /// Human-readable description of the current problem; `null` if there is none.
    pub trouble: Option<String>,
}

/// Revision in the history of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryEntry {
    /// Number of the revision.
    pub revision: u64,
    /// Time at which the revision was published.
    pub at: Timestamp,
    /// Cause of the revision: `changed`, `removed` or `rolled-back`.
    pub event: String,
    /// `true` if the source is pinned to this revision.
    #[serde(default)]
    pub pinned: bool,
    /// SHA-256 digest of the content, in lower-case hexadecimal; `null` if there is no content, or the caller
    /// must not read it.
    pub sha256: Option<String>,
    /// Size of the content, in bytes; `null` if the caller must not read it.
    pub size: Option<u64>,
    /// Media type of the content; `null` if the source reports none.
    pub media_type: Option<String>,
    /// `true` if the content is stored. Only stored content can be read, compared and rolled back to.
    #[serde(default)]
    pub stored: bool,
}

/// Value that validation rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedValue {
    /// Time of the rejection.
    pub at: Timestamp,
    /// Reason for the rejection.
    pub reason: String,
    /// SHA-256 digest of the content, in lower-case hexadecimal; `null` if the caller must not read the
    /// content.
    pub sha256: Option<String>,
    /// Size of the content, in bytes; `null` if the caller must not read the content.
    pub size: Option<u64>,
    /// Media type of the content; `null` if the source reports none.
    pub media_type: Option<String>,
    /// Content, in base64; `null` if it is not stored, or the caller must not read it. Secrets and values
    /// larger than 1 MiB are not stored.
    pub content: Option<String>,
}

/// All sources and groups that the caller may access.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sources {
    /// Sources, sorted by name.
    pub sources: Vec<ListedSource>,
    /// Groups: sinks that combine the values of several sources.
    pub groups: Vec<GroupStatus>,
    /// Error of the configuration file, if the last reload failed and the previous configuration stays in
    /// effect; otherwise `null`.
    #[serde(default)]
    pub config_trouble: Option<String>,
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
    /// Media type of the current value; `null` if the source reports none, has no value, or is not readable.
    pub media_type: Option<String>,
    /// Size of the current value, in bytes; `null` if the source has no value or is not readable.
    pub size: Option<u64>,
    /// Grants of the plugin, as command-line flags.
    pub granted: Vec<String>,
    /// Accesses that the plugin was denied since the source was last configured.
    pub refused: Vec<RefusedAccess>,
    /// Number of changes of the value in each of the last 60 minutes, oldest first. The last entry is the
    /// current minute.
    pub activity: Vec<u32>,
    /// Counters of the source since the host started.
    pub counters: Totals,
}

/// Access that a plugin was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedAccess {
    /// Denied access, the reason, and the grant that would allow it.
    pub what: String,
    /// Number of denials.
    pub count: u64,
}

/// Counters of a source since the host started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Totals {
    /// Number of published values.
    pub changes: u64,
    /// Number of published removals of the value.
    pub removals: u64,
    /// Number of values that validation rejected.
    pub refused_values: u64,
    /// Number of reads, failed ones included.
    pub reads: u64,
    /// Number of failed reads.
    pub read_failures: u64,
    /// Number of watches that were opened, reopened ones included.
    pub watches: u64,
    /// Number of failed watches.
    pub watch_failures: u64,
    /// Number of crashes of the plugin.
    pub crashes: u64,
    /// Number of accesses that the plugin was denied.
    pub refused_accesses: u64,
    /// CPU time that the plugin used, in seconds.
    pub cpu_seconds: f64,
    /// Memory of the plugin, in bytes.
    pub memory: u64,
    /// Mean time from the first sign of a change to the publication of the new value, in seconds; `null` before
    /// the first change.
    pub reaction_seconds: Option<f64>,
}

/// Revisions of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// Revisions, newest first.
    pub revisions: Vec<HistoryEntry>,
}

/// Line-by-line difference between two revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diff {
    /// Old revision.
    pub from: u64,
    /// New revision.
    pub to: u64,
    /// Changed lines and the unchanged lines near them. Other unchanged lines are replaced by lines of the kind
    /// `skip`.
    pub lines: Vec<DiffLine>,
}

/// Line of a line-by-line difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffLine {
    /// Kind of the line: `equal` (in both revisions), `delete` (only in the old one), `insert` (only in the new
    /// one), or `skip` (placeholder for omitted lines).
    pub kind: String,
    /// Line number in the old revision, starting at 1; `null` for inserted and skipped lines.
    pub old: Option<u64>,
    /// Line number in the new revision, starting at 1; `null` for deleted and skipped lines.
    pub new: Option<u64>,
    /// Text of the line, without its line ending. For `skip`, a description of the omitted lines.
    pub text: String,
}

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
    /// Revision to which the source is pinned by a rollback; `null` if it is not pinned.
    pub pinned: Option<u64>,
    /// `ETag` of the current value; `null` if there is no value or it is not readable.
    pub etag: Option<String>,
    /// Size of the current value, in bytes; `null` if there is no value or it is not readable.
    pub size: Option<u64>,
    /// Human-readable description of the current problem; `null` if there is none.
    pub trouble: Option<String>,
    /// Sinks of the source.
    pub sinks: Vec<SinkReport>,
}

/// Result of a successful command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Done {
    /// Human-readable description of the result.
    pub message: String,
}

/// Error response: problem details (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Problem type. It is always `about:blank`: the status code alone identifies the problem.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(example = "about:blank"))]
    pub kind: Cow<'static, str>,
    /// Standard phrase of the status code.
    pub title: Cow<'static, str>,
    /// HTTP status code.
    pub status: u16,
    /// Human-readable cause of the error, and the next step.
    pub detail: String,
}

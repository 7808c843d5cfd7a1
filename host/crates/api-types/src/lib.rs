//! Types of the HTTP API and of the control socket, as JSON. The server writes them and the client reads them.
//!
//! A crate of its own, so that the client builds no server, and the server no client.
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
//! - `openapi`: `utoipa::ToSchema` of each type. Off by default.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How a source is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Its plugin.
    pub plugin: String,
    /// In one word: `current`, `stale`, `waiting`, `removed`, or `ended`: it can never work as it is.
    pub state: String,
    /// The revision whose value it is held at, if it is.
    pub pinned: Option<u64>,
    /// Counts its values.
    pub revision: u64,
    /// When its value was published.
    pub at: Option<Timestamp>,
    /// When the source stood for it last.
    pub last_success_at: Option<Timestamp>,
    /// What is wrong, if something is.
    pub trouble: Option<String>,
    /// Where its values go.
    pub sinks: Vec<SinkReport>,
}

/// How a sink is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SinkReport {
    /// Its name.
    pub name: String,
    /// What was delivered last.
    pub revision: Option<u64>,
    /// What is wrong, if something is.
    pub trouble: Option<String>,
}

/// A value that a source had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryEntry {
    /// Its revision.
    pub revision: u64,
    /// When it was published.
    pub at: Timestamp,
    /// What happened: `changed`, `removed`, `rolled-back`.
    pub event: String,
    /// Whether the source is held at this value.
    #[serde(default)]
    pub pinned: bool,
    /// The SHA-256 of the content, in hexadecimal.
    pub sha256: Option<String>,
    /// The size of the content, in bytes, if it may be known.
    pub size: Option<u64>,
    /// What it is, where the source said.
    pub media_type: Option<String>,
    /// Whether the content is there: it can be looked at, and gone back to.
    #[serde(default)]
    pub stored: bool,
}

/// A value that was not let through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedValue {
    /// When it was refused.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// The SHA-256 of the content, in hexadecimal, if it may be known.
    pub sha256: Option<String>,
    /// The size of the content, in bytes, if it may be known.
    pub size: Option<u64>,
    /// What it is, where the source said.
    pub media_type: Option<String>,
    /// The content, in base64, if it is stored: neither a secret is, nor what is larger than a mebibyte.
    pub content: Option<String>,
}

/// All sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sources {
    /// By their names.
    pub sources: Vec<ListedSource>,
    /// Sinks that need several of them.
    pub groups: Vec<GroupStatus>,
    /// Why the configuration file cannot be used as it is now, so that the one before still counts.
    #[serde(default)]
    pub config_trouble: Option<String>,
}

/// A source, as it stands in the list of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ListedSource {
    /// How it is.
    #[serde(flatten)]
    pub status: SourceStatus,
    /// How often its value has changed in each of the last 60 minutes, the present one last.
    pub activity: Vec<u32>,
}

/// Sources that are used together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// Its sources.
    pub sources: Vec<String>,
    /// Where their values go.
    pub sinks: Vec<SinkReport>,
}

/// A source, in all detail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SourceDetail {
    /// How it is.
    #[serde(flatten)]
    pub status: SourceStatus,
    /// How it is kept up to date: `polling`, `realtime` or `hybrid`.
    pub strategy: String,
    /// Whether its values may leave the host for those who ask.
    pub readable: bool,
    /// What its value is, where the source says; of one that may be read.
    pub media_type: Option<String>,
    /// The size of its value, in bytes; of one that may be read.
    pub size: Option<u64>,
    /// What its plugin may reach.
    pub granted: Vec<String>,
    /// What its plugin was refused, since it was configured like this.
    pub refused: Vec<RefusedAccess>,
    /// How often its value has changed in each of the last 60 minutes, the present one last.
    pub activity: Vec<u32>,
    /// What has happened to it since the host was started.
    pub counters: Totals,
}

/// Something that a plugin was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedAccess {
    /// What, why, and what would allow it.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// What has happened to a source since the host was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Totals {
    /// Values that were published.
    pub changes: u64,
    /// How often there was none any more.
    pub removals: u64,
    /// Values that were not let through.
    pub refused_values: u64,
    /// How often it was read.
    pub reads: u64,
    /// How often it could not be read.
    pub read_failures: u64,
    /// How often a watch was opened.
    pub watches: u64,
    /// How often a watch failed.
    pub watch_failures: u64,
    /// How often its plugin crashed.
    pub crashes: u64,
    /// How often its plugin was refused something.
    pub refused_accesses: u64,
    /// What its plugin has had of a processor, in seconds.
    pub cpu_seconds: f64,
    /// The memory that its plugin has taken, in bytes.
    pub memory: u64,
    /// How long a change took on average, from its first sign to its value, in seconds.
    pub reaction_seconds: Option<f64>,
}

/// The values that a source had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// The newest first.
    pub revisions: Vec<HistoryEntry>,
}

/// What is different between two values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diff {
    /// The revision that it leads from.
    pub from: u64,
    /// The revision that it leads to.
    pub to: u64,
    /// Line by line. What is the same far from any change is left out.
    pub lines: Vec<DiffLine>,
}

/// A line of one value, of the other, or of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffLine {
    /// `equal`, `delete` or `insert`; `skip` stands for lines that are left out.
    pub kind: String,
    /// Its number in the value that the diff leads from, counted from 1.
    pub old: Option<u64>,
    /// Its number in the value that the diff leads to.
    pub new: Option<u64>,
    /// The line, without its end.
    pub text: String,
}

/// An event of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Its name.
    pub source: String,
    /// In one word: `current`, `stale`, `waiting`, `removed` or `ended`.
    pub state: String,
    /// Counts its values.
    pub revision: u64,
    /// When its value was published.
    pub at: Option<Timestamp>,
    /// The revision whose value it is held at, if it is.
    pub pinned: Option<u64>,
    /// The `ETag` of its value, if it has one that can be read.
    pub etag: Option<String>,
    /// The size of that, in bytes.
    pub size: Option<u64>,
    /// What is wrong, if something is.
    pub trouble: Option<String>,
    /// Where its values go.
    pub sinks: Vec<SinkReport>,
}

/// It has been done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Done {
    /// What, for people.
    pub message: String,
}

/// Problem details (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// What kind it is: `about:blank`, so the status says it.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(example = "about:blank"))]
    pub kind: Cow<'static, str>,
    /// What the status means.
    pub title: Cow<'static, str>,
    /// The status.
    pub status: u16,
    /// What went wrong, and what to do about it, for people.
    pub detail: String,
}

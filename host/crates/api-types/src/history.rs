//! History of a source, and its last rejected value.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Revisions of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// Revisions, newest first.
    pub revisions: Vec<HistoryEntry>,
}

/// Revision in the history of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryEntry {
    /// Number of the revision.
    pub revision: u64,
    /// Time at which the revision was published.
    pub at: Timestamp,
    /// Cause of the revision: `changed` (the source has a new value), `removed` (the source no longer has a
    /// value), or `rolled-back` (an operator rolled the source back).
    pub event: String,
    /// `true` if a rollback has restored the value of this revision, and the source is pinned to it.
    #[serde(default)]
    pub pinned: bool,
    /// SHA-256 digest of the content, in lower-case hexadecimal; `null` if there is no content, or the
    /// values of the source are not readable.
    pub sha256: Option<String>,
    /// Size of the content, in bytes; `null` if the values of the source are not readable.
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
pub struct RejectedValue {
    /// Time of the rejection.
    pub at: Timestamp,
    /// Reason for the rejection.
    pub reason: String,
    /// SHA-256 digest of the content, in lower-case hexadecimal; `null` if the values of the source
    /// are not readable.
    pub sha256: Option<String>,
    /// Size of the content, in bytes; `null` if the values of the source are not readable.
    pub size: Option<u64>,
    /// Media type of the content; `null` if the source reports none.
    pub media_type: Option<String>,
    /// Content, in base64; `null` if it is not stored, or the values of the source are not readable. Values of sources
    /// with `store = false`, and values larger than 1 MiB, are not stored.
    pub content: Option<String>,
}

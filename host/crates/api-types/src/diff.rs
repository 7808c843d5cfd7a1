//! Line-by-line difference between two revisions.

use serde::{Deserialize, Serialize};

/// Line-by-line difference between two revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diff {
    /// Number of the old revision.
    pub from: u64,
    /// Number of the new revision.
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

//! Result of a command of the API: reload, rollback or resume.

use serde::{Deserialize, Serialize};

/// Result of a successful command: reload, rollback or resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandResult {
    /// Human-readable description of the result.
    pub message: String,
}

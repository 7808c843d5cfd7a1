//! Result of a command.

use serde::{Deserialize, Serialize};

/// Result of a successful command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandResult {
    /// Human-readable description of the result.
    pub message: String,
}

//! Permanent rejection of a value.

use reloader_engine::types::{Failure, FailureKind};

/// Returns a permanent rejection: the value itself is invalid.
pub(super) fn rejected(reason: impl AsRef<str>) -> Failure {
    Failure::new(FailureKind::Permanent, reason)
}

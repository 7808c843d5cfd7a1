//! Validation of new values: size guards, syntax, JSON Schema, validator plugin and command.
//!
//! [`ValidateSettings::judge`] returns a [validator](reloader_source::validator) that performs the
//! configured checks, cheapest first, and stops at the first rejection.
//!
//! There are two kinds of failures:
//!
//! - A permanent rejection concerns the value itself. The value is validated again only after a
//!   change or an explicit refresh.
//! - A transient failure means that a check could not be performed, e.g. because the schema file is
//!   missing or the command cannot be started. The value is not published, and the check is retried
//!   with backoff.
//!
//! The guards against empty and shrunken values can be bypassed only by a change of the settings.

mod command;
mod content_check;
mod guards;
mod parse;
mod settings;

pub use parse::Form;
pub use settings::{Input, PluginValidators, Share, ShareError, ValidateSettings};

use reloader_engine::types::{Failure, FailureKind};

/// Returns a permanent rejection: the value itself is invalid.
fn rejected(reason: impl AsRef<str>) -> Failure {
    Failure::new(FailureKind::Permanent, reason)
}

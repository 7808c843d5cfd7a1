//! Checks that a new value has to pass, as an operator writes them: what it weighs, whether it can be
//! parsed, whether it fits a schema, and what a plugin and a command say of it.
//!
//! [`ValidateSettings::judge`] makes of them what [`judge`](reloader_source::validator) asks. The cheapest are asked
//! first, and the first refusal counts: what a schema says of a value that is cut off helps nobody.
//!
//! A value that is refused for itself is not tried again before it is another one, or somebody asks for a
//! reload. A check that could not be made at all (a schema that is not there, a command that cannot be
//! started) lets nothing through either, and is made again with growing pauses. The guards against
//! emptiness and shrinking have no other way around them than the settings: who wants such a value
//! through changes them.

mod command;
mod content_check;
mod guards;
mod parse;
mod settings;

pub use parse::Form;
pub use settings::{Input, PluginValidators, Share, ShareError, ValidateSettings};

use reloader_engine::types::{Failure, FailureKind};

/// The value itself is bad.
fn bad(reason: impl AsRef<str>) -> Failure {
    Failure::new(FailureKind::Permanent, reason)
}

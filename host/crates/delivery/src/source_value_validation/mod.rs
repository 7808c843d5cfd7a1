//! Validation of a source's new value before it is published: size guards, syntax, JSON Schema,
//! validator plugin and command.
//!
//! [`ValidateSettings::validator`] returns a [validator](reloader_source::validator) that performs the
//! configured checks, cheapest first, and stops at the first rejection.
//!
//! There are two kinds of failures:
//!
//! - A permanent rejection concerns the value itself. The host validates the value again only after
//!   the source or the validation has changed, or after an explicit reload.
//! - A transient failure means that a check could not be performed, e.g. because the schema file is
//!   missing or the command cannot be started. The value is not published, and the check is retried
//!   with backoff.
//!
//! Only a change of the settings makes the host accept a value that `not-empty` or `max-shrink` rejects.

mod command_validator;
mod document_syntax;
mod percentage;
mod size_guards;
mod syntax_validator;
mod validation_settings;

pub use command_validator::Input;
pub use document_syntax::DocumentFormat;
pub use percentage::{Percentage, PercentageError};
pub use validation_settings::{PluginValidators, ValidateSettings};

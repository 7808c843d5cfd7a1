//! Errors of the settings of a source or a validator.

use reloader_policy::{CredentialError, GrantError, plugin_settings::SettingError};
use reloader_util::blocking_pool::BlockingError;

/// Error of settings that cannot be used with a plugin.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// The settings do not match the plugin's schema.
    #[error("{}", join_lines(.0))]
    Settings(Vec<SettingError>),
    /// Settings that imply grants have values that are not valid paths or URLs.
    #[error("{}", join_lines(.0))]
    Grants(Vec<GrantError>),
    /// A credential of the source cannot be used.
    #[error("{0}")]
    Credential(CredentialError),
    /// The plugin is a validator, but a source is required.
    #[error(
        "the plugin `{plugin}` is a validator, not a source; hint: name it in the `validate` setting of a source, \
         and use a plugin of the world `source` here"
    )]
    NotASource {
        /// Name of the plugin.
        plugin: String,
    },
    /// The plugin is a source, but a validator is required.
    #[error(
        "the plugin `{plugin}` is a source, not a validator; `{} inspect` shows the world of a plugin",
        reloader_util::program_name::get()
    )]
    NotAValidator {
        /// Name of the plugin.
        plugin: String,
    },
    /// The strategy is `realtime`, but the plugin cannot watch.
    #[error(
        "the plugin `{plugin}` cannot watch, so strategy `realtime` is not possible; hint: use `polling`"
    )]
    CannotWatch {
        /// Name of the plugin.
        plugin: String,
    },
    /// The settings are not resolved: no thread is available, or the operation panicked.
    #[error(
        "the settings cannot be resolved: {0}; hint: check whether the file systems of the files with secrets respond"
    )]
    Unresolved(#[from] BlockingError),
}

fn join_lines<T: ToString>(errors: &[T]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

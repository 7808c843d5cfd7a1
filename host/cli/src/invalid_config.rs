//! Report of an invalid configuration file.

use crate::cli_error::CliError;
use reloader_app::ConfigError;
use std::io::{IsTerminal, Write as _, stderr};

/// Reports an invalid configuration file: with source lines on a terminal, else with one line per diagnostic.
pub(crate) fn invalid_config(error: &ConfigError) -> CliError {
    if error.is_temporary() {
        return CliError::runtime(error);
    }
    if !stderr().is_terminal() {
        return CliError::usage(error);
    }
    let styled = std::env::var_os("NO_COLOR").is_none();
    // `render` has sanitised the text. Sanitising it again would remove the colours.
    let _ = writeln!(stderr().lock(), "{}", error.render(styled));
    CliError::Reported(2)
}

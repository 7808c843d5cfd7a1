//! Error of a command, with its exit status.

use reloader_util::sanitize::sanitize;
use std::{
    io::{Write as _, stderr},
    process::ExitCode,
};

/// Reason for an exit status other than 0.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Invalid arguments or configuration: exit status 2.
    Usage(String),
    /// Error at run time: exit status 1.
    Runtime(String),
    /// Error that is already reported to the user, with its exit status.
    Reported(u8),
}

impl CliError {
    pub(crate) fn usage(error: impl ToString) -> Self {
        Self::Usage(error.to_string())
    }

    pub(crate) fn runtime(error: impl ToString) -> Self {
        Self::Runtime(error.to_string())
    }

    /// Prints the error to standard error, unless it is already reported, and returns the exit status.
    pub(crate) fn report(self) -> ExitCode {
        let (message, status) = match self {
            Self::Usage(message) => (message, 2),
            Self::Runtime(message) => (message, 1),
            Self::Reported(status) => return ExitCode::from(status),
        };
        let mut stderr = stderr().lock();
        for (number, line) in message.lines().enumerate() {
            let margin = if number == 0 { "error: " } else { "       " };
            // A closed stderr is ignored: the exit status reports the failure, too.
            let _ = writeln!(stderr, "{margin}{}", sanitize(line));
        }
        ExitCode::from(status)
    }
}

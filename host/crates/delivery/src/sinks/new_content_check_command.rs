//! Check of new content by a command, before the content replaces a file.

use crate::{
    process::{
        command_line::CommandLine,
        command_run::{CommandError, CommandInput},
        command_settings::CommandSettings,
        output_log::OutputLimit,
    },
    sink::SinkError,
};
use reloader_util::units::Time;
use std::{path::Path, time::Duration};

/// Command that accepts or rejects the new content of a file.
#[derive(Debug)]
pub(super) struct ContentCheck {
    /// Name of the sink in the log of the command's output.
    label: String,
    command: CommandSettings,
    output_limit: OutputLimit,
}

impl ContentCheck {
    pub(super) fn new(command: CommandLine, label: String, timeout: Duration) -> Self {
        let command = CommandSettings { timeout: Time(timeout), ..CommandSettings::new(command) };
        Self { label, command, output_limit: OutputLimit::default() }
    }

    /// Runs the command with the file `staged`, which contains the new content of the file `target`.
    ///
    /// # Errors
    ///
    /// The command rejects the content, or does not run. The reason may be outside of the content, so a retry may
    /// succeed.
    pub(super) async fn run(&self, staged: &Path, target: &Path) -> Result<(), SinkError> {
        let input = CommandInput::ExistingFile(staged.to_owned());
        let env = [("RELOADER_TARGET", target.display().to_string())];
        let run = self.command.run(&self.label, &self.output_limit, input, &env);
        run.await.map_err(|error| {
            let target = target.display();
            SinkError::transient(match error {
                CommandError::Failed { .. } => {
                    format!("the check rejected the new content of `{target}`: {error}")
                }
                _ => format!("the new content of `{target}` cannot be checked: {error}"),
            })
        })
    }
}

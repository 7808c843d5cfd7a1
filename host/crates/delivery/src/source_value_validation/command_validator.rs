//! Validator that runs a command and accepts a value if the exit status is 0.

use super::document_syntax::DocumentFormat;
use crate::process::{
    command_run::{CommandError, CommandInput},
    command_settings::CommandSettings,
    output_log::OutputLimit,
};
use async_trait::async_trait;
use reloader_engine::types::{Failure, Snapshot};
use reloader_source::{
    decode::Format,
    validator::{Candidate, Rejection, Validator},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Way in which a validation command receives the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// The value on standard input.
    Stdin,
    /// A private file with the value.
    File,
}

/// Validator that runs a command for each value. The command is killed when a newer value arrives during the
/// check.
#[derive(Debug)]
pub(super) struct CommandValidator {
    pub(super) settings: CommandSettings,
    pub(super) input: Input,
    /// Configured format of the values: determines the extension of the file that the command reads.
    pub(super) format: Option<DocumentFormat>,
    pub(super) output_limit: OutputLimit,
}

#[async_trait]
impl Validator for CommandValidator {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let Candidate { source, new, before } = candidate;
        let input = match self.input {
            Input::Stdin => CommandInput::Stdin(new.content.clone()),
            Input::File => {
                let file =
                    |name, value: &Snapshot| (self.file_name(name, value), value.content.clone());
                let values = [("value", Some(*new)), ("before", *before)];
                CommandInput::Files(
                    values.into_iter().filter_map(|(name, it)| Some(file(name, it?))).collect(),
                )
            }
        };
        let mut env = vec![("RELOADER_SOURCE", source.to_string())];
        if let Some(media_type) = &new.media_type {
            env.push(("RELOADER_MEDIA_TYPE", media_type.to_string()));
        }
        let run = self.settings.run(source.as_str(), &self.output_limit, input, &env).await;
        run.map_err(|error| rejection(&error))
    }

    fn time_limit(&self) -> Duration {
        self.settings.max_duration()
    }
}

impl CommandValidator {
    /// Returns the file name of a value. Its extension tells programs the format.
    fn file_name(&self, name: &str, value: &Snapshot) -> String {
        let by_media_type =
            || value.media_type.as_deref().and_then(Format::of).map(DocumentFormat::from);
        match self.format.or_else(by_media_type) {
            Some(format) => format!("{name}.{}", format.extension()),
            None => name.into(),
        }
    }
}

/// Exit statuses after which the check is retried, and the value is not rejected: `EX_TEMPFAIL` of
/// `sysexits.h`, and the statuses with which a shell reports a command that is not executable or not found.
const TRANSIENT_STATUSES: [i32; 3] = [75, 126, 127];

/// Returns the rejection for a failed command: permanent if the command rejected the value,
/// otherwise transient.
fn rejection(error: &CommandError) -> Rejection {
    let is_rejection = match error {
        CommandError::Failed { status, .. } => {
            status.code().is_some_and(|code| !TRANSIENT_STATUSES.contains(&code))
        }
        CommandError::Start { .. } | CommandError::Io { .. } | CommandError::TimedOut { .. } => {
            false
        }
    };
    if is_rejection {
        Failure::permanent(format!("rejected by the validation command: {error}"))
    } else {
        Failure::transient(format!("the value could not be validated: {error}"))
    }
}

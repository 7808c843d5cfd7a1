//! A command that says whether a value may be let through, by its exit status.

use super::{Form, Input, bad};
use crate::process::{CommandError, CommandSettings, Given};
use async_trait::async_trait;
use reloader_engine::types::{Failure, Snapshot};
use reloader_source::{
    decode::Format,
    validator::{Candidate, Rejection, Validator},
};
use std::time::Duration;

/// Runs a command for each value. When a newer one takes the value's place, the command is killed.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) settings: CommandSettings,
    pub(super) input: Input,
    /// What values are, if it is said.
    pub(super) form: Option<Form>,
}

/// What making a command ready takes, in addition to its own time.
const READY: Duration = Duration::from_secs(5);

#[async_trait]
impl Validator for Command {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let Candidate { source, new, before } = candidate;
        let given = match self.input {
            Input::Stdin => Given::Stdin(new.content.clone()),
            Input::File => {
                let named =
                    |name, value: &Snapshot| (self.name(name, value), value.content.clone());
                let files = [("value", Some(*new)), ("before", *before)];
                Given::Files(
                    files.into_iter().filter_map(|(name, it)| Some(named(name, it?))).collect(),
                )
            }
        };
        let mut env = vec![("RELOADER_SOURCE", source.to_string())];
        if let Some(media_type) = &new.media_type {
            env.push(("RELOADER_MEDIA_TYPE", media_type.to_string()));
        }
        self.settings.run(source.as_str(), given, &env).await.map_err(|error| told(&error))
    }

    fn time_limit(&self) -> Duration {
        self.settings.longest().saturating_add(READY)
    }
}

impl Command {
    /// The name of a file with this value: programs go by how it ends.
    fn name(&self, name: &str, value: &Snapshot) -> String {
        let of_media_type = || value.media_type.as_deref().and_then(Format::of).map(Form::from);
        match self.form.or_else(of_media_type) {
            Some(form) => format!("{name}.{}", form.extension()),
            None => name.into(),
        }
    }
}

/// Statuses that say nothing of the value: those with which a shell reports that a command cannot be
/// run, and that of `sysexits.h` for what may work later.
const NOT_OF_THE_VALUE: [i32; 3] = [75, 126, 127];

fn told(error: &CommandError) -> Rejection {
    let of_the_value = match error {
        CommandError::Failed { status, .. } => {
            status.code().is_some_and(|code| !NOT_OF_THE_VALUE.contains(&code))
        }
        CommandError::Start { .. } | CommandError::Io { .. } | CommandError::TimedOut { .. } => {
            false
        }
    };
    if of_the_value {
        bad(format!("the value is refused by a command: {error}"))
    } else {
        Failure::transient(format!("the value could not be checked: {error}"))
    }
}

//! Commands that are run for a value.

use super::{
    Delivered, Sink, SinkError, Update,
    payload::{self, event},
};
use crate::process::{CommandError, CommandLine, CommandSettings, Given, Signal};
use async_trait::async_trait;
use bytes::Bytes;
use reloader_util::units::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    time::Duration,
};

/// A command that is run for each value. Its exit status says whether the value is delivered.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExecSettings {
    /// The program and its arguments as a list, run without a shell; or a text, run by `/bin/sh -c`.
    /// In a list, `{file}` stands for the path of the value, with `input = "file"`. The environment has
    /// `RELOADER_SOURCE`, `RELOADER_REVISION`, `RELOADER_EVENT`, `RELOADER_MEDIA_TYPE`; of several sources
    /// a line for each.
    pub command: CommandLine,
    /// How it gets the value: on `stdin`, as a private `file` (its path is in `RELOADER_FILE`), or not at
    /// all (`none`). Of several sources, standard input has one JSON object, and with `file` there is
    /// one for each source in `RELOADER_DIRECTORY`. Default: `stdin`.
    #[serde(default)]
    pub input: ExecInput,
    /// What it is stopped with when it takes too long. Default: `SIGTERM`.
    #[serde(default = "kill_signal")]
    pub kill_signal: Signal,
    /// How long it may take to end after that, before it is killed. Default: `5s`.
    #[serde(default = "kill_after")]
    pub kill_after: Time,
    /// The directory that it runs in. Default: the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Variables of its environment, besides those of the host. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

fn kill_signal() -> Signal {
    Signal::TERM
}

fn kill_after() -> Time {
    Time(Duration::from_secs(5))
}

/// How a command gets the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExecInput {
    /// On standard input.
    #[default]
    Stdin,
    /// As a private file.
    File,
    /// Not at all.
    None,
}

impl ExecSettings {
    /// This command, with all else as it is by default.
    #[must_use]
    pub fn new(command: CommandLine) -> Self {
        Self {
            command,
            input: ExecInput::default(),
            kill_signal: kill_signal(),
            kill_after: kill_after(),
            directory: None,
            env: BTreeMap::new(),
        }
    }
}

/// A command that is run for each value.
#[derive(Debug)]
pub struct Exec {
    label: String,
    command: CommandSettings,
    input: ExecInput,
}

impl Exec {
    /// With this name in the log. The command is stopped when it takes longer than `timeout`; the deadline
    /// of the sink's worker should leave it [`CommandSettings::longest`].
    pub fn new(label: impl Into<String>, settings: ExecSettings, timeout: Duration) -> Self {
        let ExecSettings { command, input, kill_signal, kill_after, directory, env } = settings;
        let timeout = Time(timeout);
        let command = CommandSettings { command, timeout, kill_signal, kill_after, directory, env };
        Self { label: label.into(), command, input }
    }

    fn given(&self, update: &Update) -> Given {
        let content = |part: &super::Part| {
            part.value.as_ref().map_or_else(Bytes::new, |value| value.content.clone())
        };
        match (self.input, update.single()) {
            (ExecInput::None, _) => Given::Nothing,
            (ExecInput::Stdin, Some(part)) => Given::Stdin(content(part)),
            (ExecInput::Stdin, None) => Given::Stdin(payload::json(update).to_string().into()),
            (ExecInput::File, _) => {
                let mut taken = BTreeSet::new();
                let there = update.parts().iter().filter(|part| part.value.is_some());
                let name = |part| (file_name(part, &mut taken), content(part));
                Given::Files(there.map(name).collect())
            }
        }
    }
}

/// A source's name as that of a file. Almost always it is one already.
fn file_name(part: &super::Part, taken: &mut BTreeSet<String>) -> String {
    let mut name: String = part.source.as_str().replace(['/', '\0'], "_");
    if name.is_empty() || name.starts_with('.') {
        name.insert(0, '_');
    }
    name.truncate(name.floor_char_boundary(200));
    while !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}

/// What its environment says of the values.
fn env(update: &Update) -> Vec<(&'static str, String)> {
    let list = |text: fn(&super::Part) -> String| {
        update.parts().iter().map(text).collect::<Vec<_>>().join("\n")
    };
    let mut env = vec![
        // A line for each, if there are several.
        ("RELOADER_SOURCE", list(|part| part.source.to_string())),
        ("RELOADER_REVISION", list(|part| part.revision.to_string())),
        ("RELOADER_EVENT", list(|part| event(part).into())),
    ];
    let media_type = |part: &super::Part| {
        let value = part.value.as_ref();
        value.and_then(|value| value.media_type.as_deref()).unwrap_or_default().to_owned()
    };
    env.push(("RELOADER_MEDIA_TYPE", list(media_type)));
    // What the environment cannot hold.
    env.iter_mut().for_each(|(_, value)| value.retain(|character| character != '\0'));
    env
}

#[async_trait]
impl Sink for Exec {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        let run = self.command.run(&self.label, self.given(update), &env(update)).await;
        let error = match run {
            Ok(()) => return Ok(Delivered::Changed),
            Err(error) => error,
        };
        let message = error.to_string();
        Err(match error {
            // A program that is not there is installed rarely while one waits for it.
            CommandError::Start { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                SinkError::lasting(message)
            }
            CommandError::Start { .. }
            | CommandError::Io { .. }
            | CommandError::Failed { .. }
            | CommandError::TimedOut { .. } => SinkError::passing(message),
        })
    }
}

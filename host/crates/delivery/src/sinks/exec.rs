//! Sink that runs a command for each value.

use super::event_json::update_json;
use crate::{
    delivery_values::{Part, Update},
    process::{
        command_line::CommandLine,
        command_run::{CommandError, CommandInput},
        command_settings::{CommandSettings, default_kill_after, default_kill_signal},
        output_log::OutputLimit,
        signal_name::Signal,
    },
    sink::{Delivered, Sink, SinkError},
};
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

/// Settings of a command that runs for each value. The delivery succeeds if the command exits with
/// status 0.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExecSettings {
    /// Program and arguments as a list, run without a shell; or a string, run by `/bin/sh -c`. In a
    /// list, `{file}` is replaced with the path of the value if `input = "file"`. The environment
    /// contains `RELOADER_SOURCE`, `RELOADER_REVISION`, `RELOADER_EVENT` and `RELOADER_MEDIA_TYPE`,
    /// with one line per source if there are several.
    pub command: CommandLine,
    /// Input of the command: the value on standard input (`stdin`), a private file with the value
    /// (`file`), which has its path in `RELOADER_FILE`, or nothing (`none`). For several sources, standard
    /// input is one JSON object, and `file` creates one file per source in `RELOADER_DIRECTORY`.
    /// Default: `stdin`.
    #[serde(default)]
    pub input: ExecInput,
    /// Signal that stops the command after its timeout. Default: `SIGTERM`.
    #[serde(default = "default_kill_signal")]
    pub kill_signal: Signal,
    /// Grace period between `kill-signal` and `SIGKILL`. Default: `5s`.
    #[serde(default = "default_kill_after")]
    pub kill_after: Time,
    /// Working directory. Default: the working directory of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Environment variables, in addition to those of the host. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Input of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExecInput {
    /// The value on standard input.
    #[default]
    Stdin,
    /// A private file with the value.
    File,
    /// No input.
    None,
}

impl ExecSettings {
    /// Returns the default settings for `command`.
    #[must_use]
    pub fn new(command: CommandLine) -> Self {
        Self {
            command,
            input: ExecInput::default(),
            kill_signal: default_kill_signal(),
            kill_after: default_kill_after(),
            directory: None,
            env: BTreeMap::new(),
        }
    }
}

/// Sink that runs a command for each value.
#[derive(Debug)]
pub struct Exec {
    label: String,
    command: CommandSettings,
    input: ExecInput,
    output_limit: OutputLimit,
}

impl Exec {
    /// Returns a sink whose command is called `label` in the log and is stopped after `timeout`.
    ///
    /// The timeout of the sink's worker should be at least [`CommandSettings::max_duration`].
    pub fn new(label: impl Into<String>, settings: ExecSettings, timeout: Duration) -> Self {
        let ExecSettings { command, input, kill_signal, kill_after, directory, env } = settings;
        let timeout = Time(timeout);
        let command = CommandSettings { command, timeout, kill_signal, kill_after, directory, env };
        Self { label: label.into(), command, input, output_limit: OutputLimit::default() }
    }

    fn command_input(&self, update: &Update) -> CommandInput {
        let content = |part: &Part| {
            part.value.as_ref().map_or_else(Bytes::new, |value| value.content.clone())
        };
        match (self.input, update.single()) {
            (ExecInput::None, _) => CommandInput::Empty,
            (ExecInput::Stdin, Some(part)) => CommandInput::Stdin(content(part)),
            (ExecInput::Stdin, None) => CommandInput::Stdin(update_json(update).to_string().into()),
            (ExecInput::File, _) => {
                let mut used_names = BTreeSet::new();
                let parts = update.parts().iter().filter(|part| part.value.is_some());
                let file = |part| (file_name(part, &mut used_names), content(part));
                CommandInput::Files(parts.map(file).collect())
            }
        }
    }
}

/// Maximum length of a file name that is derived from a source name, in bytes. Less than the maximum of file
/// systems (255), because `_` may be appended.
const MAX_FILE_NAME_BYTES: usize = 200;

/// Returns a valid file name for a source that differs from all `used_names`.
fn file_name(part: &Part, used_names: &mut BTreeSet<String>) -> String {
    let mut name: String = part.source.as_str().replace(['/', '\0'], "_");
    if name.is_empty() || name.starts_with('.') {
        name.insert(0, '_');
    }
    name.truncate(name.floor_char_boundary(MAX_FILE_NAME_BYTES));
    while !used_names.insert(name.clone()) {
        name.push('_');
    }
    name
}

/// Returns the environment variables that describe the update.
fn env(update: &Update) -> Vec<(&'static str, String)> {
    let list =
        |text: fn(&Part) -> String| update.parts().iter().map(text).collect::<Vec<_>>().join("\n");
    let mut env = vec![
        // A group delivers several sources, so each variable has one line per source.
        ("RELOADER_SOURCE", list(|part| part.source.to_string())),
        ("RELOADER_REVISION", list(|part| part.revision.to_string())),
        ("RELOADER_EVENT", list(|part| part.event().into())),
    ];
    let media_type = |part: &Part| {
        let value = part.value.as_ref();
        value.and_then(|value| value.media_type.as_deref()).unwrap_or_default().to_owned()
    };
    env.push(("RELOADER_MEDIA_TYPE", list(media_type)));
    // An environment variable cannot contain NUL, so NUL characters are removed.
    env.iter_mut().for_each(|(_, value)| value.retain(|character| character != '\0'));
    env
}

#[async_trait]
impl Sink for Exec {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        let (label, limit, input) = (&self.label, &self.output_limit, self.command_input(update));
        let error = match self.command.run(label, limit, input, &env(update)).await {
            Ok(()) => return Ok(Delivered::Changed),
            Err(error) => error,
        };
        let message = error.to_string();
        Err(match error {
            // Permanent: a missing program is not expected to appear before the retries are exhausted.
            CommandError::Start { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                SinkError::permanent(message)
            }
            CommandError::Start { .. }
            | CommandError::Io { .. }
            | CommandError::Failed { .. }
            | CommandError::TimedOut { .. } => SinkError::transient(message),
        })
    }
}

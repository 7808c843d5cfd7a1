//! A command, as an operator writes it.

use super::Signal;
use reloader_util::units::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, collections::BTreeMap, fmt, path::PathBuf, time::Duration};
use tokio::process::Command;

/// What is run: a program with its arguments, or a text for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// The program, and its arguments as they are. No shell looks at them.
    Program(Vec<String>),
    /// Run by `/bin/sh -c`.
    Shell(String),
}

/// A command that is run with a value, and ends.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CommandSettings {
    /// The program and its arguments as a list, run without a shell; or a text, run by `/bin/sh -c`.
    /// In a list, `{file}` stands for the path of the value, if it is given as a file.
    pub command: CommandLine,
    /// The command is stopped when it takes longer, with the processes that it started, as far as they are
    /// in its process group. Default: `30s`.
    #[serde(default = "timeout")]
    pub timeout: Time,
    /// What it is stopped with. Default: `SIGTERM`.
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

pub(crate) fn timeout() -> Time {
    Time(Duration::from_secs(30))
}

pub(crate) fn kill_signal() -> Signal {
    Signal::TERM
}

pub(crate) fn kill_after() -> Time {
    Time(Duration::from_secs(5))
}

impl CommandSettings {
    /// This command, with all else as it is by default.
    #[must_use]
    pub fn new(command: CommandLine) -> Self {
        Self {
            command,
            timeout: timeout(),
            kill_signal: kill_signal(),
            kill_after: kill_after(),
            directory: None,
            env: BTreeMap::new(),
        }
    }

    /// The longest that a run can take, until nothing is left of it.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.timeout.0 + self.kill_after.0 + super::run::AFTERWARDS
    }
}

impl CommandLine {
    /// A program with its arguments.
    pub fn program<I: Into<String>>(words: impl IntoIterator<Item = I>) -> Self {
        Self::Program(words.into_iter().map(Into::into).collect())
    }

    /// A text for the shell.
    pub fn shell(text: impl Into<String>) -> Self {
        Self::Shell(text.into())
    }

    /// The command, where each word of a program's list has been changed by `word`.
    pub(super) fn to_command(&self, word: impl Fn(&str) -> String) -> Command {
        match self {
            Self::Program(words) => {
                let mut words = words.iter().map(|text| word(text));
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words);
                command
            }
            Self::Shell(text) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", text]);
                command
            }
        }
    }
}

/// For messages: the program alone, since arguments may be secrets; of a text for the shell the first word.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = match self {
            Self::Program(words) => words.first().map_or("", String::as_str),
            Self::Shell(text) => text.split_whitespace().next().unwrap_or_default(),
        };
        f.write_str(&reloader_util::sanitize::sanitize(first))
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = CommandLine;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list like [\"program\", \"argument\"], or a text for the shell")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CommandLine, E> {
                if text.trim().is_empty() {
                    return Err(E::custom("the command is empty"));
                }
                Ok(CommandLine::Shell(text.into()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<CommandLine, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element::<String>()? {
                    words.push(word);
                }
                if words.first().is_none_or(String::is_empty) {
                    return Err(de::Error::custom("the command is empty: expected a program"));
                }
                Ok(CommandLine::Program(words))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for CommandLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Program(words) => words.serialize(serializer),
            Self::Shell(text) => text.serialize(serializer),
        }
    }
}

impl JsonSchema for CommandLine {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                { "type": "array", "items": { "type": "string" }, "minItems": 1,
                  "description": "The program and its arguments; no shell looks at them" },
                { "type": "string", "minLength": 1, "description": "Run by `/bin/sh -c`" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(value: serde_json::Value) -> Result<CommandSettings, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_a_program_and_a_text_is_for_the_shell() {
        let list = settings(json!({ "command": ["nginx", "-t"] })).unwrap();
        assert_eq!(list, CommandSettings::new(CommandLine::program(["nginx", "-t"])));
        let text = settings(json!({ "command": "a | b", "timeout": "1s" })).unwrap();
        assert_eq!(text.command, CommandLine::shell("a | b"));
        assert_eq!(text.timeout, Time(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_wrong_says_what_was_expected() {
        for (wrong, words) in [
            (json!({ "command": 7 }), "or a text for the shell"),
            (json!({ "command": [] }), "expected a program"),
            (json!({ "command": " " }), "the command is empty"),
            (json!({ "command": "a", "kill-signal": "NIL" }), "is not a signal"),
            (json!({ "command": "a", "timeuot": "1s" }), "unknown field `timeuot`"),
        ] {
            let error = settings(wrong).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_message_names_the_program_and_keeps_its_arguments_to_itself() {
        assert_eq!(CommandLine::program(["curl", "-u", "me:secret"]).to_string(), "curl");
        assert_eq!(CommandLine::shell("curl -u me:secret").to_string(), "curl");
    }
}

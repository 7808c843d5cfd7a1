//! Command line: a program with its arguments, or a string for the shell.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt};
use tokio::process::Command;

/// A program with its arguments, or a string for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A program and its arguments, run without a shell.
    Program(Vec<String>),
    /// A string that `/bin/sh -c` runs.
    Shell(String),
}

impl CommandLine {
    /// Returns the command line of a program with its arguments.
    pub fn program<I: Into<String>>(words: impl IntoIterator<Item = I>) -> Self {
        Self::Program(words.into_iter().map(Into::into).collect())
    }

    /// Returns the command line of a string for the shell.
    pub fn shell(text: impl Into<String>) -> Self {
        Self::Shell(text.into())
    }

    /// Returns the command to spawn. `word` transforms each word of [`Program`](Self::Program).
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

/// Shows the program, or the first word of a shell command. Omits the arguments, which may be secrets.
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
                f.write_str("a list like [\"program\", \"argument\"], or a string for the shell")
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
                  "description": "The program and its arguments, run without a shell" },
                { "type": "string", "minLength": 1, "description": "Run by `/bin/sh -c`" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn command_line(value: serde_json::Value) -> Result<CommandLine, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn list_is_program_and_string_is_shell() {
        let list = command_line(json!(["nginx", "-t"]));
        assert_eq!(list, Ok(CommandLine::program(["nginx", "-t"])));
        assert_eq!(command_line(json!("a | b")), Ok(CommandLine::shell("a | b")));
    }

    /// The error of an invalid command line says what is expected.
    #[test]
    fn invalid_command_line_names_the_expectation() {
        for (invalid, expected) in [
            (json!(7), "or a string for the shell"),
            (json!([]), "expected a program"),
            (json!([""]), "expected a program"),
            (json!(" "), "the command is empty"),
        ] {
            let error = command_line(invalid).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn display_omits_arguments() {
        assert_eq!(CommandLine::program(["curl", "-u", "me:secret"]).to_string(), "curl");
        assert_eq!(CommandLine::shell("curl -u me:secret").to_string(), "curl");
    }
}

//! From bytes to what they say, or to where they stop making sense. What they say is never repeated.

use crate::decode::Format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt, str::Utf8Error};

/// What a value can be parsed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// JSON.
    Json,
    /// TOML.
    Toml,
    /// YAML, one document.
    Yaml,
    /// Any text in UTF-8.
    Utf8,
}

impl Form {
    /// How files of it end.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Toml => "toml",
            Self::Yaml => "yaml",
            Self::Utf8 => "txt",
        }
    }

    /// What files that end like this hold, if it is known.
    pub(super) fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }

    /// What the content says; a mere text says itself, and is left where it is (`None`).
    pub(super) fn parse(self, content: &[u8]) -> Result<Option<Value>, String> {
        let text = std::str::from_utf8(content).map_err(|error| {
            let (line, column) = place(content, error.valid_up_to());
            format!("line {line} column {column}: {}", not_utf8(error))
        })?;
        Ok(Some(match self {
            Self::Utf8 => return Ok(None),
            Self::Json => serde_json::from_str(text).map_err(|error| error.to_string())?,
            Self::Yaml => {
                let parsed = serde_saphyr::from_str(text);
                parsed.map_err(|error| error.without_snippet().to_string())?
            }
            Self::Toml => {
                let table: toml::Table = text.parse().map_err(|error| of_toml(&error, content))?;
                Value::Object(table.into_iter().map(|(name, value)| (name, json(value))).collect())
            }
        }))
    }
}

impl From<Format> for Form {
    fn from(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Toml => Self::Toml,
            Format::Yaml => Self::Yaml,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
            Self::Utf8 => "UTF-8",
        })
    }
}

fn not_utf8(error: Utf8Error) -> &'static str {
    if error.error_len().is_some() { "it is not UTF-8" } else { "it ends within a character" }
}

/// Its own way to say it repeats the line.
fn of_toml(error: &toml::de::Error, content: &[u8]) -> String {
    let message = error.message();
    match error.span() {
        Some(span) => {
            let (line, column) = place(content, span.start);
            format!("line {line} column {column}: {message}")
        }
        None => message.into(),
    }
}

/// The line and the column of a byte, from 1; a column is a character.
fn place(content: &[u8], at: usize) -> (usize, usize) {
    let before = &content[..at.min(content.len())];
    let line = before.split(|&byte| byte == b'\n').next_back().unwrap_or_default();
    let lines = before.iter().filter(|&&byte| byte == b'\n').count();
    (lines + 1, String::from_utf8_lossy(line).chars().count() + 1)
}

/// As JSON has it, for which alone there are schemas: a date is a text.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(is) => is.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            let members: Map<_, _> = table.into_iter().map(|(k, value)| (k, json(value))).collect();
            members.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_is_said_in_three_ways() {
        let expected = json!({ "a": { "b": [1, 2.5, true, "x"] } });
        for (form, text) in [
            (Form::Json, r#"{"a": {"b": [1, 2.5, true, "x"]}}"#),
            (Form::Toml, "[a]\nb = [1, 2.5, true, 'x']"),
            (Form::Yaml, "a:\n  b: [1, 2.5, true, x]\n"),
        ] {
            assert_eq!(form.parse(text.as_bytes()), Ok(Some(expected.clone())), "{form}");
        }
        assert_eq!(Form::Utf8.parse("Gruß".as_bytes()), Ok(None));
        assert_eq!(
            Form::Toml.parse(b"at = 2026-01-02T03:04:05Z"),
            Ok(Some(json!({ "at": "2026-01-02T03:04:05Z" })))
        );
    }

    #[test]
    fn what_cannot_be_parsed_says_where_and_does_not_show_it() {
        for (form, text, expected) in [
            (Form::Json, &b"{\"key\":\n \"s3cret\", }"[..], "line 2 column 12"),
            (Form::Json, b"{\"key\": \"s3cret\"", "line 1 column 16"),
            (Form::Json, b"{} s3cret", "line 1 column 4"),
            (Form::Toml, b"a = 1\nkey = s3cret", "line 2 column 7"),
            (Form::Toml, b"key = 's3cret'\nkey = 's3cret'", "line 2 column 1"),
            (Form::Yaml, b"a: 1\nkey: [s3cret\nb: 2", "line 3"),
            (Form::Yaml, b"a: 1\nkey: s3cret: b", "line 2"),
            (Form::Utf8, b"a\ns3cret \xff", "line 2 column 8: it is not UTF-8"),
            (Form::Json, b"\"s3cret \xc3", "line 1 column 9: it ends within a character"),
        ] {
            let error = form.parse(text).expect_err(expected);
            assert!(error.contains(expected), "{expected} is not in: {error}");
            assert!(!error.contains("s3cret"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn what_is_made_to_take_all_memory_is_refused() {
        let deep = "[".repeat(100_000);
        assert!(Form::Json.parse(deep.as_bytes()).is_err());
        assert!(Form::Yaml.parse(deep.as_bytes()).is_err());
        assert!(Form::Toml.parse(format!("a = {deep}").as_bytes()).is_err());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let refer = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{refer}]\n");
        }
        assert!(Form::Yaml.parse(bomb.as_bytes()).is_err());
    }
}

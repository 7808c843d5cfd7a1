//! Parsers of values and schemas. Error messages name the line and never repeat the content.

use serde_json::Value;
use std::fmt;

/// Format of a value or a schema.
#[guest_sdk::settings]
#[derive(Clone, Copy)]
pub enum Format {
    /// JSON.
    Json,
    /// TOML.
    Toml,
    /// YAML, one document.
    Yaml,
}

impl Format {
    /// Parses a text of this format. The error message contains the line but not the content.
    pub(crate) fn parse(self, content: &[u8]) -> Result<Value, String> {
        let text = str::from_utf8(content).map_err(|error| {
            let (line, column) = line_and_column(content, error.valid_up_to());
            let reason = match error.error_len() {
                Some(_) => "it is not UTF-8",
                None => "it ends within a character",
            };
            format!("line {line} column {column}: {reason}")
        })?;
        match self {
            Self::Json => serde_json::from_str(text).map_err(|error| error.to_string()),
            Self::Yaml => {
                serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())
            }
            Self::Toml => {
                let parsed = text.parse().map_err(|error| describe_toml_error(&error, content))?;
                Ok(toml_to_json(toml::Value::Table(parsed)))
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
        })
    }
}

/// Describes a TOML error without the source line, which the error's `Display` includes.
fn describe_toml_error(error: &toml::de::Error, content: &[u8]) -> String {
    let message = error.message();
    match error.span() {
        Some(span) => {
            let (line, column) = line_and_column(content, span.start);
            format!("line {line} column {column}: {message}")
        }
        None => message.into(),
    }
}

/// Returns the 1-based line and column of a byte. Columns count characters.
fn line_and_column(content: &[u8], at: usize) -> (usize, usize) {
    let before = &content[..at.min(content.len())];
    let line = before.split(|&byte| byte == b'\n').next_back().unwrap_or_default();
    let lines = before.iter().filter(|&&byte| byte == b'\n').count();
    (lines + 1, String::from_utf8_lossy(line).chars().count() + 1)
}

/// Converts TOML to the JSON data model, on which schemas are defined: a date becomes a string.
fn toml_to_json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(is) => is.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(toml_to_json).collect(),
        toml::Value::Table(table) => Value::Object(
            table.into_iter().map(|(name, value)| (name, toml_to_json(value))).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats_share_one_data_model() {
        let expected = json!({ "a": { "b": [1, 2.5, true, "x"] } });
        for (format, text) in [
            (Format::Json, r#"{"a": {"b": [1, 2.5, true, "x"]}}"#),
            (Format::Toml, "[a]\nb = [1, 2.5, true, 'x']"),
            (Format::Yaml, "a:\n  b: [1, 2.5, true, x]\n"),
        ] {
            assert_eq!(format.parse(text.as_bytes()), Ok(expected.clone()), "{format}");
        }
        assert_eq!(
            Format::Toml.parse(b"at = 2026-01-02T03:04:05Z"),
            Ok(json!({ "at": "2026-01-02T03:04:05Z" }))
        );
    }

    #[test]
    fn syntax_error_names_place_and_hides_content() {
        for (format, text, expected) in [
            (Format::Json, &b"{\"key\":\n \"s3cret\", }"[..], "line 2 column 12"),
            (Format::Toml, b"a = 1\nkey = s3cret", "line 2 column 7"),
            (Format::Toml, b"key = 's3cret'\nkey = 's3cret'", "line 2 column 1"),
            (Format::Yaml, b"a: 1\nkey: [s3cret\nb: 2", "line 3"),
            (Format::Json, b"\"s3cret \xff\"", "line 1 column 9: it is not UTF-8"),
            (Format::Json, b"\"s3cret \xc3", "line 1 column 9: it ends within a character"),
        ] {
            let error = format.parse(text).expect_err(expected);
            assert!(error.contains(expected), "{expected} is not in: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}

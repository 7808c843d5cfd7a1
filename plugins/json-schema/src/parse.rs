//! Parsers of values and schemas. Error messages contain the line and the column, and never the content.

use serde_json::Value;
use std::{fmt, str::Utf8Error};

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
    /// Parses a text of this format. An error is like `invalid JSON at line 1, column 5: expected value`.
    pub(crate) fn parse(self, content: &[u8]) -> Result<Value, String> {
        let text = str::from_utf8(content).map_err(|error| utf8_error(error, content))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match self {
            Self::Json => serde_json::from_str(text).map_err(|error| json_error(&error)),
            Self::Yaml => {
                // These are the options of the host.
                let mut options = serde_saphyr::Options::default();
                options.strict_booleans = true;
                options.leading_zero_numbers_as_strings = true;
                serde_saphyr::from_str_with_options(text, options)
                    .map_err(|error| yaml_error(&error))
            }
            Self::Toml => {
                let parsed = text.parse().map_err(|error| toml_error(&error, content))?;
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

fn utf8_error(error: Utf8Error, content: &[u8]) -> String {
    let (line, column) = line_and_column(content, error.valid_up_to());
    let reason = if error.error_len().is_none() { ": incomplete character at the end" } else { "" };
    format!("invalid UTF-8 at line {line}, column {column}{reason}")
}

/// Returns the message with the place before the reason. `Display` shows the place after the reason.
fn json_error(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    match text.strip_suffix(&format!(" at line {line} column {column}")) {
        Some(reason) => format!("invalid JSON at line {line}, column {column}: {reason}"),
        None => format!("invalid JSON: {text}"),
    }
}

/// Returns the message with the place before the reason. `Display` shows the place after the reason.
fn yaml_error(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let place = error
        .location()
        .map(|place| format!(" at line {}, column {}", place.line(), place.column()))
        .unwrap_or_default();
    match text.strip_suffix(&place) {
        Some(reason) => format!("invalid YAML{place}: {reason}"),
        None => format!("invalid YAML: {text}"),
    }
}

/// Returns the message without the line of the document, which `Display` quotes.
fn toml_error(error: &toml::de::Error, content: &[u8]) -> String {
    let reason = error.message();
    match error.span() {
        Some(span) => {
            let (line, column) = line_and_column(content, span.start);
            format!("invalid TOML at line {line}, column {column}: {reason}")
        }
        None => format!("invalid TOML: {reason}"),
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
            (Format::Json, &b"{\"key\":\n \"s3cret\", }"[..], "JSON at line 2, column 12: "),
            (Format::Toml, b"a = 1\nkey = s3cret", "invalid TOML at line 2, column 7: "),
            (Format::Toml, b"key = 's3cret'\nkey = 's3cret'", "TOML at line 2, column 1: "),
            (Format::Yaml, b"a: 1\nkey: [s3cret\nb: 2", "invalid YAML at line 3, column "),
            (Format::Json, b"\"s3cret \xff\"", "invalid UTF-8 at line 1, column 9"),
            (Format::Json, b"\"s3cret \xc3", "line 1, column 9: incomplete character at the end"),
        ] {
            let error = format.parse(text).expect_err(expected);
            assert!(error.contains(expected), "{expected} is not in: {error}");
            assert_eq!(error.matches(" at line ").count(), 1, "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}

//! Syntax checks of values. Errors contain the line and the column, and never the content.

use crate::document_node_count_and_emptiness::Emptiness;
use reloader_engine::toml_yaml_limits;
use reloader_source::decode::{self, DecodeError, Format};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::Utf8Error};

/// Format that a value is parsed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DocumentFormat {
    /// JSON. A value with more than 127 levels is rejected.
    Json,
    /// TOML. A value whose parsing would take more than 128 MiB of memory is rejected.
    Toml,
    /// YAML. A value is rejected if it has several documents, or more than 250,000 values and keys, 50,000 aliases or
    /// 64 levels.
    Yaml,
    /// Any UTF-8 text.
    Utf8,
}

impl DocumentFormat {
    /// Returns the extension of files in this format, without the dot.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Toml => "toml",
            Self::Yaml => "yaml",
            Self::Utf8 => "txt",
        }
    }

    /// Checks the syntax without building the document. Returns whether the document is empty; always
    /// `false` for [`DocumentFormat::Utf8`].
    ///
    /// # Errors
    ///
    /// Returns a message like `invalid JSON at line 1, column 5: expected value`.
    pub(super) fn check(self, content: &[u8]) -> Result<bool, String> {
        let text = decode::text(content).map_err(|error| match error {
            DecodeError::Encoding(error) => utf8_error(error, content),
            error => error.to_string(),
        })?;
        match self {
            Self::Utf8 => Ok(false),
            Self::Json => {
                serde_json::from_str(text).map(|Emptiness(empty)| empty).map_err(|e| json_error(&e))
            }
            Self::Yaml => {
                serde_saphyr::from_str_with_options(text, toml_yaml_limits::yaml_options())
                    .map(|Emptiness(empty)| empty)
                    .map_err(|error| yaml_error(&error))
            }
            Self::Toml => {
                toml_yaml_limits::check_toml(text)
                    .map_err(|too_complex| format!("invalid TOML: {too_complex}"))?;
                let table = toml::de::DeTable::parse(text);
                let table = table.map_err(|error| toml_error(&error, content))?;
                Ok(table.get_ref().is_empty())
            }
        }
    }

    /// Returns the structured format; `None` for text.
    pub(super) fn format(self) -> Option<Format> {
        match self {
            Self::Json => Some(Format::Json),
            Self::Toml => Some(Format::Toml),
            Self::Yaml => Some(Format::Yaml),
            Self::Utf8 => None,
        }
    }
}

impl From<Format> for DocumentFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Toml => Self::Toml,
            Format::Yaml => Self::Yaml,
        }
    }
}

impl fmt::Display for DocumentFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
            Self::Utf8 => "UTF-8",
        })
    }
}

fn utf8_error(error: Utf8Error, content: &[u8]) -> String {
    let (line, column) = position(content, error.valid_up_to());
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
    let (place, reason) = match text.strip_suffix(&place) {
        Some(reason) => (place.as_str(), reason),
        None => ("", text.as_str()),
    };
    format!("invalid YAML{place}: {}", yaml_hint(reason).unwrap_or_else(|| reason.into()))
}

/// Returns a clearer text for errors of the parser that name its functions and options.
fn yaml_hint(reason: &str) -> Option<String> {
    if reason.contains("multiple YAML documents") {
        return Some("the value has more than one document; hint: remove the lines `---`".into());
    }
    reason.starts_with("non-finite float").then(|| {
        "a number is too large, infinite or not a number; hint: quote it to make it a text".into()
    })
}

/// Returns the message without the line of the document, which `Display` quotes.
fn toml_error(error: &toml::de::Error, content: &[u8]) -> String {
    let reason = error.message();
    match error.span() {
        Some(span) => {
            let (line, column) = position(content, span.start);
            format!("invalid TOML at line {line}, column {column}: {reason}")
        }
        None => format!("invalid TOML: {reason}"),
    }
}

/// Returns the line and the column of a byte offset, both counted from 1. Columns count characters.
fn position(content: &[u8], offset: usize) -> (usize, usize) {
    let before = &content[..offset.min(content.len())];
    let line = before.split(|&byte| byte == b'\n').next_back().unwrap_or_default();
    let lines = before.iter().filter(|&&byte| byte == b'\n').count();
    (lines + 1, String::from_utf8_lossy(line).chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_error_has_position_without_content() {
        for (format, text, expected) in [
            (
                DocumentFormat::Json,
                &b"{\"key\":\n \"s3cret\", }"[..],
                "invalid JSON at line 2, column 12: ",
            ),
            (DocumentFormat::Json, b"{\"key\": \"s3cret\"", "invalid JSON at line 1, column 16: "),
            (
                DocumentFormat::Json,
                b"{} s3cret",
                "invalid JSON at line 1, column 4: trailing characters",
            ),
            (DocumentFormat::Toml, b"a = 1\nkey = s3cret", "invalid TOML at line 2, column 7: "),
            (
                DocumentFormat::Toml,
                b"key = 's3cret'\nkey = 's3cret'",
                "invalid TOML at line 2, column 1: ",
            ),
            (DocumentFormat::Yaml, b"a: 1\nkey: [s3cret\nb: 2", "invalid YAML at line 3, column "),
            (DocumentFormat::Yaml, b"a: 1\nkey: s3cret: b", "invalid YAML at line 2, column "),
            (DocumentFormat::Utf8, b"a\ns3cret \xff", "invalid UTF-8 at line 2, column 8"),
            (
                DocumentFormat::Json,
                b"\"s3cret \xc3",
                "line 1, column 9: incomplete character at the end",
            ),
        ] {
            let error = format.check(text).expect_err(expected);
            assert!(error.contains(expected), "{expected} is not in: {error}");
            assert_eq!(error.matches(" at line ").count(), 1, "{error}");
            assert!(!error.contains("s3cret"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn nesting_and_alias_bombs_are_rejected() {
        let deep = "[".repeat(100_000);
        let closed = format!("{deep}{}", "]".repeat(100_000));
        assert!(DocumentFormat::Json.check(deep.as_bytes()).is_err());
        assert!(DocumentFormat::Json.check(closed.as_bytes()).is_err());
        assert!(DocumentFormat::Yaml.check(closed.as_bytes()).is_err());
        assert!(DocumentFormat::Toml.check(format!("a = {closed}").as_bytes()).is_err());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let refer = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{refer}]\n");
        }
        assert!(DocumentFormat::Yaml.check(bomb.as_bytes()).is_err());
    }

    /// Regression: parsing this document allocated 1.9 GiB.
    #[test]
    fn toml_bomb_is_rejected() {
        let bomb = format!("a = [{}]", "{a=0},".repeat(1_000_000));
        let error = DocumentFormat::Toml.check(bomb.as_bytes()).expect_err("too complex");
        assert!(error.contains("more than 128 MiB"), "{error}");
    }
}

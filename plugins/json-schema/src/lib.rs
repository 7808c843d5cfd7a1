//! JSON Schema validator. The sandbox bounds the memory and the CPU time of the validation, which can take
//! exponential time on a hostile value, and memory many times the size of the value.

mod parse;

use guest_sdk::{Failure, Snapshot, Validation, Validator};
use jsonschema::{PatternOptions, ValidationError, error::ValidationErrorKind};
use serde_json::Value;

pub use parse::Format;

/// Settings of the JSON Schema validator.
#[guest_sdk::settings]
pub struct Settings {
    /// Text of the JSON Schema.
    pub schema: String,
    /// Format of the schema.
    #[setting(default = "json")]
    pub schema_format: Format,
    /// Name of the schema in messages, e.g. its path.
    #[setting(default = "given")]
    pub schema_name: String,
    /// Format of the values.
    #[setting(default = "json")]
    pub format: Format,
    /// Rejects empty objects, arrays and strings, and `null`.
    #[setting(default = false)]
    pub not_empty: bool,
}

/// Validator with a compiled schema.
pub struct JsonSchema {
    compiled: jsonschema::Validator,
    schema_name: String,
    format: Format,
    not_empty: bool,
}

/// Maximum length of one validation error in a message, in bytes.
const MAX_ERROR_BYTES: usize = 256;

impl Validator for JsonSchema {
    type Config = Settings;

    fn new(config: Settings) -> Result<Self, Failure> {
        let Settings { schema, schema_format, schema_name, format, not_empty } = config;
        let compiled = compile(schema.as_bytes(), schema_format).map_err(|reason| {
            Failure::config(format!("the schema {schema_name} cannot be used: {reason}"))
        })?;
        Ok(Self { compiled, schema_name, format, not_empty })
    }

    fn validate(&mut self, value: &Snapshot, _: Option<&Snapshot>) -> Result<Validation, Failure> {
        Ok(match self.check(&value.content) {
            Ok(()) => Validation::Accepted,
            Err(reason) => Validation::Rejected(reason),
        })
    }
}

guest_sdk::export!(JsonSchema: Validator);

impl JsonSchema {
    /// Parses and validates a value. Stops at the first error, because collecting all errors can take
    /// memory many times the size of the value.
    fn check(&self, content: &[u8]) -> Result<(), String> {
        let Self { compiled, schema_name, format, not_empty } = self;
        let value = format.parse(content)?;
        if *not_empty && is_empty(&value) {
            return Err(format!("the value is empty ({format}), rejected by `not-empty`"));
        }
        compiled.validate(&value).map_err(|error| {
            format!("the value does not match the schema {schema_name}: {}", describe(&error))
        })
    }
}

/// Compiles a schema. References to other documents are errors; they are never fetched.
fn compile(schema: &[u8], format: Format) -> Result<jsonschema::Validator, String> {
    let schema = format.parse(schema)?;
    // The `regex` engine matches in linear time. It does not support backreferences.
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    options.build(&schema).map_err(|error| {
        let (kind, reason) = (error.kind(), shorten(error.to_string()));
        match kind {
            ValidationErrorKind::Referencing(_) => {
                format!("{reason}; only references within the schema itself are followed")
            }
            _ => reason,
        }
    })
}

/// Describes an error with the JSON Pointer of its location and without the value, which may be secret.
fn describe(error: &ValidationError<'_>) -> String {
    let location = match error.instance_path().as_str() {
        "" => "(root)",
        pointer => pointer,
    };
    shorten(format!("`{location}`: {}", error.masked_with("it")))
}

/// Truncates a text to [`MAX_ERROR_BYTES`].
fn shorten(mut text: String) -> String {
    if text.len() > MAX_ERROR_BYTES {
        text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
        text.push('…');
    }
    text
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.trim().is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(schema: &str) -> Settings {
        Settings {
            schema: schema.into(),
            schema_format: Format::Json,
            schema_name: "s.json".into(),
            format: Format::Json,
            not_empty: false,
        }
    }

    fn unusable(schema: &str) -> String {
        JsonSchema::new(settings(schema)).err().expect("an unusable schema").message
    }

    /// Returns the reason of a rejection, or an empty string for an accepted value.
    fn check(settings: Settings, value: &str) -> String {
        let mut validator = JsonSchema::new(settings).expect("a usable schema");
        match validator.validate(&Snapshot::new(value), None).expect("a result") {
            Validation::Accepted => String::new(),
            Validation::Rejected(reason) => reason,
        }
    }

    #[test]
    fn error_names_place_and_hides_value() {
        let schema = r#"{ "properties": { "port": { "type": "integer" } }, "required": ["host"] }"#;
        let prefix = "the value does not match the schema s.json: ";
        assert_eq!(
            check(settings(schema), r#"{ "host": 1, "port": "s3cret" }"#),
            format!("{prefix}`/port`: it is not of type \"integer\"")
        );
        assert_eq!(
            check(settings(schema), "{}"),
            format!("{prefix}`(root)`: \"host\" is a required property")
        );
        assert_eq!(check(settings(schema), r#"{ "host": 1 }"#), "");
    }

    #[test]
    fn validation_stops_at_first_error() {
        let value = format!("[{}0]", "1,".repeat(1_000));
        let reason = check(settings(r#"{ "items": { "type": "string" } }"#), &value);
        assert_eq!(reason.matches("string").count(), 1, "{reason}");
    }

    #[test]
    fn long_error_is_shortened() {
        let schema = format!(r#"{{ "enum": ["{}"] }}"#, "ä".repeat(10_000));
        let reason = check(settings(&schema), "1");
        assert!(reason.len() < 400 && reason.ends_with('…'), "{reason}");
    }

    #[test]
    fn malformed_value_is_rejected() {
        let reason = check(settings("true"), "{\"port\": ");
        assert_eq!(reason, "invalid JSON at line 1, column 9: EOF while parsing a value");
    }

    #[test]
    fn empty_value_is_rejected_on_request() {
        for (format, empty, full) in [
            (Format::Json, "{}", "{\"a\": 1}"),
            (Format::Json, "[]", "0"),
            (Format::Json, "null", "false"),
            (Format::Toml, "# nothing", "a = 1"),
            (Format::Yaml, "---\n", "a"),
        ] {
            let settings = || Settings { format, not_empty: true, ..settings("true") };
            let expected = format!("the value is empty ({format}), rejected by `not-empty`");
            assert_eq!(check(settings(), empty), expected);
            assert_eq!(check(settings(), full), "", "{full}");
        }
    }

    #[test]
    fn schema_format_is_configurable() {
        for (schema_format, schema) in
            [(Format::Toml, "type = 'integer'"), (Format::Yaml, "type: integer")]
        {
            let settings = || Settings { schema_format, ..settings(schema) };
            assert_eq!(check(settings(), "1"), "");
            assert!(check(settings(), "'x'").contains("invalid JSON"));
        }
    }

    #[test]
    fn unusable_schema_is_a_config_failure() {
        let prefix = "the schema s.json cannot be used: ";
        assert!(unusable("{").starts_with(&format!("{prefix}invalid JSON at line 1, column 1: ")));
        assert!(unusable(r#"{ "type": "nonsense" }"#).starts_with(prefix));
        assert!(unusable(r#"{ "pattern": "(a)\\1" }"#).starts_with(prefix));
    }

    #[test]
    fn reference_to_other_document_is_rejected() {
        let tree = r##"{ "$ref": "#/$defs/tree",
            "$defs": { "tree": { "items": { "$ref": "#/$defs/tree" }, "type": "array" } } }"##;
        assert_eq!(check(settings(tree), "[[], [[]]]"), "");
        assert!(check(settings(tree), "[[1]]").contains("`/0/0`"));
        for other in ["http://127.0.0.1:9/schema.json", "file:///etc/hostname", "other.json"] {
            let reason = unusable(&format!(r#"{{ "$ref": "{other}" }}"#));
            assert!(reason.ends_with("only references within the schema itself are followed"));
        }
    }
}

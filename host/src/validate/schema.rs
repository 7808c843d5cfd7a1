//! A JSON Schema in a file, which is read again when it is needed, and so may change.

use super::{Form, bad};
use crate::{judge::Refusal, model::Failure};
use jsonschema::{PatternOptions, ValidationError, Validator};
use reloader_util::sanitize::sanitize;
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// No schema is larger, in bytes.
const SIZE_MAX: u64 = 4 << 20;
/// So many of a value's errors are told.
const ERRORS_MAX: usize = 8;
/// Each is cut after so many bytes.
const ERROR_MAX: usize = 256;

/// A schema in a file.
#[derive(Debug)]
pub(super) struct Schema {
    path: PathBuf,
    /// As it was the last time, with its bytes.
    known: Mutex<Option<(Vec<u8>, Arc<Validator>)>>,
}

impl Schema {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// Whether a value fits. One that does not is told with all that is wrong, up to a bound; the
    /// value's own texts and numbers are left out.
    ///
    /// Reads the file, so it takes its time.
    pub(super) fn check(&self, value: &Value) -> Result<(), Refusal> {
        let validator = self.validator().map_err(Failure::transient)?;
        let mut errors = validator.iter_errors(value);
        let mut told: Vec<String> = errors.by_ref().take(ERRORS_MAX).map(|e| tell(&e)).collect();
        if told.is_empty() {
            return Ok(());
        }
        if errors.next().is_some() {
            told.push("and more".into());
        }
        let path = self.path.display();
        Err(bad(format!("the value does not fit the schema {path}: {}", told.join("; "))))
    }

    /// The schema as it is now.
    pub(super) fn validator(&self) -> Result<Arc<Validator>, String> {
        let path = self.path.display();
        let bytes = read(&self.path)
            .map_err(|error| format!("the schema {path} cannot be read: {error}"))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, validator)) = known.as_ref().filter(|(before, _)| *before == bytes) {
            return Ok(Arc::clone(validator));
        }
        let validator = build(&self.path, &bytes)
            .map_err(|error| sanitize(&format!("the schema {path} cannot be used: {error}")))?;
        let validator = Arc::new(validator);
        *known = Some((bytes, Arc::clone(&validator)));
        Ok(validator)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(io::Error::other(format!("it has more than {SIZE_MAX} bytes")));
    }
    Ok(bytes)
}

/// References lead to other places of the schema, never to another document: nothing is fetched.
fn build(path: &Path, bytes: &[u8]) -> Result<Validator, String> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let form = extension.and_then(Form::of_extension).unwrap_or(Form::Json);
    let schema = form.parse(bytes).map_err(|error| format!("it is not {form}: {error}"))?;
    // Patterns that never go back in the text: the value may be a stranger's.
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(&schema.unwrap_or_default())
        .map_err(|error| match error.kind() {
            jsonschema::error::ValidationErrorKind::Referencing(error) => {
                format!("{error}; only references within the schema itself are followed")
            }
            _ => error.to_string(),
        })
}

/// Where and what.
fn tell(error: &ValidationError<'_>) -> String {
    let place = error.instance_path().as_str();
    let place = if place.is_empty() { "the whole" } else { place };
    let mut told = format!("`{place}`: {}", error.masked_with("it"));
    if told.len() > ERROR_MAX {
        told.truncate(told.floor_char_boundary(ERROR_MAX));
        told.push('…');
    }
    sanitize(&told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FailureKind;
    use serde_json::json;

    struct InFile {
        directory: tempfile::TempDir,
        schema: Schema,
    }

    fn schema(schema: &str) -> InFile {
        let directory = tempfile::tempdir().expect("a directory");
        let in_file = InFile { schema: Schema::new(directory.path().join("s.json")), directory };
        in_file.is_now(schema);
        in_file
    }

    impl InFile {
        fn is_now(&self, schema: &str) {
            fs::write(self.directory.path().join("s.json"), schema).expect("it can be written");
        }

        fn refusal(&self, value: Value) -> Failure {
            self.schema.check(&value).expect_err("it does not fit")
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_place_and_without_the_value() {
        let schema = schema(
            r#"{ "properties": { "port": { "type": "integer" }, "key": { "maxLength": 3 } },
                 "required": ["host"] }"#,
        );
        let refusal = schema.refusal(json!({ "port": "s3cret", "key": "s3cret" }));
        assert_eq!(refusal.kind, FailureKind::Permanent);
        for expected in [
            "`/port`: it is not of type \"integer\"",
            "`/key`: it is longer than 3 characters",
            "`the whole`: \"host\" is a required property",
        ] {
            assert!(refusal.message.contains(expected), "{expected} is not in: {refusal}");
        }
        assert!(!refusal.message.contains("s3cret"), "{refusal}");
    }

    #[test]
    fn what_is_wrong_a_thousand_times_is_told_some_times() {
        let schema = schema(r#"{ "items": { "type": "integer" } }"#);
        let refusal = schema.refusal(Value::Array(vec!["x".into(); 1000]));
        assert!(refusal.message.ends_with("; and more"), "{refusal}");
        assert_eq!(refusal.message.matches("integer").count(), ERRORS_MAX);
    }

    #[test]
    fn a_schema_that_has_changed_counts_at_once() {
        let schema = schema(r#"{ "type": "integer" }"#);
        assert!(schema.schema.check(&json!(1)).is_ok());
        schema.is_now(r#"{ "type": "string" }"#);
        schema.refusal(json!(1));
        assert!(schema.schema.check(&json!("x")).is_ok());
    }

    #[test]
    fn without_a_sound_schema_nothing_is_let_through_and_it_is_tried_again() {
        let schema = schema(r#"{ "type": "#);
        let refusal = schema.refusal(json!(1));
        assert!(refusal.kind.is_passing());
        assert!(refusal.message.contains("cannot be used: it is not JSON: "), "{refusal}");
        schema.is_now(r#"{ "type": "nonsense" }"#);
        assert!(schema.refusal(json!(1)).message.contains("cannot be used"));
        fs::remove_file(&schema.schema.path).expect("it is there");
        let refusal = schema.refusal(json!(1));
        assert!(refusal.kind.is_passing());
        assert!(refusal.message.contains("cannot be read"), "{refusal}");
    }

    #[test]
    fn references_lead_around_within_the_schema_and_nowhere_else() {
        let schema = schema(
            r##"{ "$ref": "#/$defs/tree",
                  "$defs": { "tree": { "items": { "$ref": "#/$defs/tree" }, "type": "array" } } }"##,
        );
        assert!(schema.schema.check(&json!([[], [[]]])).is_ok());
        schema.refusal(json!([[1]]));
        for elsewhere in ["http://127.0.0.1:9/schema.json", "file:///etc/hostname", "other.json"] {
            schema.is_now(&json!({ "$ref": elsewhere }).to_string());
            let refusal = schema.refusal(json!(1));
            let words = "only references within the schema itself are followed";
            assert!(refusal.message.contains(words), "{refusal}");
        }
    }
}

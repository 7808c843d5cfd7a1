//! Settings of a plugin: parsed from `key=value` pairs, and validated against the plugin's JSON Schema.

use crate::schema_annotations::Place;
use crate::schema_limits::{self, Budget};
use reloader_util::sanitize::sanitize;
use serde_json::{Map, Value};

/// Error in the settings of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SettingError {
    /// Path of the setting, with dots between the levels. `None` if the setting is missing, if a `key=value` pair
    /// is invalid, or if the error concerns no single setting.
    setting: Option<String>,
    text: String,
}

/// Maximum number of missing settings, and of violations of the schema, that are reported.
const MAX_REPORTED_ERRORS: usize = 20;

impl SettingError {
    /// Returns an error with this message, sanitised because it may contain untrusted text of the schema.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self { setting: None, text: sanitize(text.as_ref()) }
    }

    /// Attaches the path of the setting, with dots between the levels.
    pub fn with_setting(self, setting: impl Into<String>) -> Self {
        Self { setting: Some(setting.into()), ..self }
    }

    /// Returns the path of the invalid setting, with dots between the levels. Returns `None` if the setting is
    /// missing, if a `key=value` pair is invalid, or if the error concerns no single setting.
    #[must_use]
    pub fn setting(&self) -> Option<&str> {
        self.setting.as_deref()
    }

    /// Replaces the message by the result of `replace`, sanitised.
    pub fn map(self, replace: impl FnOnce(&str) -> String) -> Self {
        Self { text: sanitize(&replace(&self.text)), ..self }
    }
}

/// Parses `key=value` pairs into a JSON object, by the types in the schema.
///
/// The value of a string setting is used verbatim. Values of other types are parsed as JSON, unless they
/// contain a reference to a secret.
///
/// # Errors
///
/// One error for each pair without `=`, each value that has to be JSON and is not, and each repetition of a key.
pub fn parse_pairs<'a>(
    schema: &Value,
    pairs: impl IntoIterator<Item = &'a str>,
) -> Result<Map<String, Value>, Vec<SettingError>> {
    let mut settings = Map::new();
    let mut errors = Vec::new();
    for pair in pairs {
        let Some((name, text)) = pair.split_once('=') else {
            errors.push(SettingError::new(format!("`{pair}`: expected key=value")));
            continue;
        };
        let place = Place::root(schema).member(name);
        let value = match place.keyword("type").and_then(Value::as_str) {
            Some("string") => Ok(Value::String(text.into())),
            // A reference to a secret: `parse_by_type` parses the secret that replaces it.
            Some(_) if text.contains("${") => Ok(Value::String(text.into())),
            Some(_) => serde_json::from_str(text).map_err(|_| {
                let got =
                    if place.hides_anything() { String::new() } else { format!(", got `{text}`") };
                SettingError::new(format!(
                    "setting `{name}`: expected {}{got}",
                    expected_type(&place)
                ))
            }),
            // A setting without a single type in the schema: JSON if the text is valid JSON, otherwise a string.
            None => Ok(serde_json::from_str(text).unwrap_or_else(|_| text.into())),
        };
        match value {
            Ok(_) if settings.contains_key(name) => {
                errors.push(SettingError::new(format!("setting `{name}` is given twice")));
            }
            Ok(value) => {
                settings.insert(name.into(), value);
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(settings) } else { Err(errors) }
}

/// Converts the secret that replaces a reference into a value of the setting's type: a string for a setting of type
/// `string` or without a single type, otherwise JSON. Text that is not valid JSON stays a string.
pub fn parse_by_type(place: &Place<'_>, text: String) -> Value {
    match place.keyword("type").and_then(Value::as_str) {
        None | Some("string") => text.into(),
        Some(_) => serde_json::from_str(&text).unwrap_or_else(|_| text.into()),
    }
}

/// Adds the defaults of the schema to the settings, and validates them.
///
/// # Errors
///
/// One error for each invalid setting, with the expected type. The number of errors that an untrusted schema
/// can cause is limited. An error without a setting if the schema is invalid, or if the settings are too large to
/// validate.
pub fn resolve(schema: &Value, given: Map<String, Value>) -> Result<Value, Vec<SettingError>> {
    let mut settings = given;
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            if let (false, Some(default)) = (settings.contains_key(name), property.get("default")) {
                settings.insert(name.clone(), default.clone());
            }
        }
    }
    let mut errors = check_names(schema, &settings);
    let settings = Value::Object(settings);
    let compiled = schema_limits::compile(schema).map_err(|reason| {
        vec![SettingError::new(format!("invalid schema of the plugin: {reason}"))]
    })?;
    let validator = &compiled.validator;
    match compiled.budget(&settings) {
        Budget::CollectErrors => {}
        Budget::ValidityOnly if validator.is_valid(&settings) => {
            return if errors.is_empty() { Ok(settings) } else { Err(errors) };
        }
        Budget::ValidityOnly => {
            errors.push(SettingError::new(
                "the settings do not match the plugin's schema; settings and schema are too large to locate the error",
            ));
            return Err(errors);
        }
        Budget::Exceeded => {
            errors.push(SettingError::new(
                "the settings are too large to validate against the plugin's schema",
            ));
            return Err(errors);
        }
    }
    let mut violated_rule = None;
    for error in validator.iter_errors(&settings) {
        if errors.len() >= MAX_REPORTED_ERRORS {
            break;
        }
        let at = error.instance_path().as_str();
        let path = at.trim_start_matches('/').replace('/', ".");
        // Most violations at the top level are missing or unknown settings, which `check_names` has reported.
        if path.is_empty() {
            violated_rule.get_or_insert_with(|| error.schema_path().to_string());
            continue;
        }
        let (place, is_hidden) = locate(schema, &settings, at);
        let got = if is_hidden {
            String::new()
        } else {
            format!(", got `{}`", unquoted(error.instance()))
        };
        let text = format!("setting `{path}`: expected {}{got}", expected_type(&place));
        errors.push(SettingError::new(text).with_setting(path));
    }
    match violated_rule {
        Some(rule) if errors.is_empty() => Err(vec![SettingError::new(format!(
            "each setting is valid, but their combination violates the plugin's schema at `{rule}`"
        ))]),
        _ if errors.is_empty() => Ok(settings),
        _ => Err(errors),
    }
}

/// Returns an error for each required setting that is missing and each unknown setting.
fn check_names(schema: &Value, settings: &Map<String, Value>) -> Vec<SettingError> {
    let mut errors = Vec::new();
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required.filter(|name| !settings.contains_key(*name)).take(MAX_REPORTED_ERRORS) {
        let place = Place::root(schema).member(name);
        let help = place.keyword("description").and_then(Value::as_str).unwrap_or_default();
        errors.push(SettingError::new(format!(
            "setting `{name}` is missing: expected {}. {help}",
            expected_type(&place)
        )));
    }
    if schema["additionalProperties"] == false && schema["patternProperties"].is_null() {
        for name in settings.keys().filter(|name| !properties.contains_key(*name)) {
            let similar = properties
                .keys()
                .map(|known| (strsim::damerau_levenshtein(known, name), known))
                .filter(|(distance, _)| *distance <= 2)
                .min();
            let hint = match similar {
                Some((_, known)) => format!("; did you mean `{known}`?"),
                None => {
                    let all: Vec<_> = properties.keys().map(|known| format!("`{known}`")).collect();
                    format!("; available: {}", all.join(", "))
                }
            };
            let text = format!("unknown setting `{name}`{hint}");
            errors.push(SettingError::new(text).with_setting(name));
        }
    }
    errors
}

/// Returns the place in the settings at a JSON pointer, and whether messages must not show its value.
///
/// A value is hidden if an annotation on it, on a value around it or on a value inside it marks a secret or a
/// URL.
fn locate<'a>(schema: &'a Value, settings: &Value, pointer: &str) -> (Place<'a>, bool) {
    let (mut place, mut value) = (Place::root(schema), settings);
    let mut is_hidden = false;
    for step in pointer.split('/').skip(1) {
        let name = step.replace("~1", "/").replace("~0", "~");
        place = match (value, name.parse()) {
            (Value::Array(_), Ok(index)) => place.item(index),
            _ => place.member(&name),
        };
        value = value.pointer(&format!("/{step}")).unwrap_or(&Value::Null);
        is_hidden |= place.is_secret() || place.may_be_url();
    }
    is_hidden |= place.hides_anything();
    (place, is_hidden)
}

/// Describes the expected type of the value at a place, e.g. "an integer from 0 to 255".
pub fn expected_type(place: &Place<'_>) -> String {
    let word = |keyword| place.keyword(keyword).and_then(Value::as_str);
    if let Some(names) = place.keyword("enum").and_then(Value::as_array) {
        let names: Vec<_> = names.iter().map(|name| format!("`{}`", unquoted(name))).collect();
        return format!("one of {}", names.join(", "));
    }
    let range = match (place.keyword("minimum"), place.keyword("maximum")) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" of at least {min}"),
        (None, Some(max)) => format!(" of at most {max}"),
        (None, None) => String::new(),
    };
    match word("type") {
        Some("integer") => format!("an integer{range}"),
        Some("number") => format!("a number{range}"),
        Some("boolean") => "`true` or `false`".into(),
        Some("array") => match place.item(0).keyword("type").and_then(Value::as_str) {
            Some("integer" | "number") => "a JSON array, e.g. `[1,2]`".into(),
            _ => "a JSON array, e.g. `[\"a\",\"b\"]`".into(),
        },
        Some("object") => "a JSON object, e.g. `{\"name\":\"value\"}`".into(),
        _ if place.schemes().is_some() => "a URL".into(),
        _ if place.is_read() => "a path".into(),
        _ => "a string".into(),
    }
}

/// Returns a string without quotes, and any other value as JSON.
fn unquoted(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["url"],
            "properties": {
                "url": { "type": "string", "description": "Where.", "x-connect": { "redis": 6379 } },
                "key": { "type": "string" },
                "database": { "type": "integer", "minimum": 0, "maximum": 255, "default": 0 },
                "kind": { "type": "string", "enum": ["a", "b"] },
                "password": { "type": "string", "x-secret": true },
                "headers": { "type": "object", "additionalProperties": { "type": "string" } },
            },
        })
    }

    fn parse_and_resolve(pairs: &[&str]) -> Result<Value, String> {
        let messages = |errors: Vec<SettingError>| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let settings = parse_pairs(&schema(), pairs.iter().copied()).map_err(messages)?;
        resolve(&schema(), settings).map_err(messages)
    }

    #[test]
    fn pairs_become_typed_values_with_defaults() {
        let pairs = ["url=redis://h", "key=1", r#"headers={"a":"b"}"#];
        let settings = parse_and_resolve(&pairs).expect("valid settings");
        assert_eq!(
            settings,
            json!({ "url": "redis://h", "key": "1", "headers": { "a": "b" }, "database": 0 })
        );
    }

    #[test]
    fn invalid_setting_is_reported_with_expectation() {
        let cases: [(&[&str], &str); 9] = [
            (&["url"], "`url`: expected key=value"),
            (&[], "setting `url` is missing: expected a URL. Where."),
            (
                &["url=redis://h", "databse=1"],
                "unknown setting `databse`; did you mean `database`?",
            ),
            (
                &["url=redis://h", "zzz=1"],
                "unknown setting `zzz`; available: `url`, `key`, `database`, `kind`, `password`, \
                 `headers`",
            ),
            (
                &["url=redis://h", "database=x"],
                "setting `database`: expected an integer from 0 to 255, got `x`",
            ),
            (
                &["url=redis://h", "database=300"],
                "setting `database`: expected an integer from 0 to 255, got `300`",
            ),
            (&["url=redis://h", "kind=c"], "setting `kind`: expected one of `a`, `b`, got `c`"),
            (&["url=redis://h", "url=redis://i"], "setting `url` is given twice"),
            (
                &["url=redis://h", r#"headers={"a":1}"#],
                "setting `headers.a`: expected a string, got `1`",
            ),
        ];
        for (pairs, expected) in cases {
            assert_eq!(parse_and_resolve(pairs).expect_err("an error"), expected, "{pairs:?}");
        }
    }

    fn errors_of(schema: &Value, settings: Value) -> Vec<String> {
        let Value::Object(settings) = settings else { panic!("settings are an object") };
        let errors = resolve(schema, settings).expect_err("invalid settings");
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn required_setting_without_property_is_reported() {
        for schema in [json!({ "required": ["a"] }), json!({ "required": ["a"], "properties": {} })]
        {
            let expected = ["setting `a` is missing: expected a string. "];
            assert_eq!(errors_of(&schema, json!({})), expected);
        }
    }

    #[test]
    fn invalid_combination_names_violated_rule() {
        let schema = json!({ "properties": { "a": {}, "b": {} }, "maxProperties": 1 });
        let errors = errors_of(&schema, json!({ "a": 1, "b": 2 }));
        assert!(errors[0].contains("their combination violates"), "{errors:?}");
        assert!(errors[0].ends_with("at `/maxProperties`"), "{errors:?}");
    }

    #[test]
    fn name_matching_pattern_property_is_known() {
        let schema = json!({ "additionalProperties": false, "patternProperties": { "^x-": {} } });
        let resolve = |settings| resolve(&schema, Map::from_iter([settings]));
        assert!(resolve(("x-a".into(), json!(1))).is_ok());
        assert!(resolve(("a".into(), json!(1))).is_err());
    }

    /// An error shows no value if the invalid value contains a secret, or is part of one.
    #[test]
    fn error_does_not_show_nested_secret() {
        let login = json!({
            "type": "object",
            "required": ["user"],
            "properties": { "password": { "type": "string", "maxLength": 3, "x-secret": true } },
        });
        let schema = json!({ "properties": {
            "login": login,
            "logins": { "type": "array", "items": { "type": "string" }, "x-secret": true },
            "defined": { "$ref": "#/$defs/login" },
            "either": { "oneOf": [{ "$ref": "#/$defs/login" }, { "type": "boolean" }] },
            "a/b~c": { "$ref": "#/$defs/login" },
        }, "$defs": { "login": login } });
        for settings in [
            json!({ "login": { "password": "hunter2" } }),
            json!({ "login": { "user": 1, "password": "hunter2" } }),
            json!({ "logins": [[["hunter2"]]] }),
            json!({ "defined": { "password": "hunter2" } }),
            json!({ "either": { "password": "hunter2" } }),
            json!({ "either": { "user": 1, "password": "hunter2" } }),
            json!({ "a/b~c": { "password": "hunter2" } }),
        ] {
            let shown = errors_of(&schema, settings).join("\n");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        let truncated = parse_pairs(&schema, ["login={\"password\":\"hunter2\""]);
        assert!(!format!("{:?}", truncated.expect_err("invalid JSON")).contains("hunter2"));
    }

    #[test]
    fn errors_are_limited_in_number_and_length() {
        let names: Vec<_> =
            (0..1000).map(|index| format!("{index}{}", "x".repeat(100_000))).collect();
        let errors = errors_of(&json!({ "required": names }), json!({}));
        assert_eq!(errors.len(), MAX_REPORTED_ERRORS);
        assert!(errors.iter().all(|error| error.len() < 5000));
    }

    /// Regression test: collecting 3,000,000 errors took 1.2 GiB.
    #[test]
    fn errors_of_large_settings_are_not_collected() {
        let required: Vec<_> = (0..3_000).map(|name| format!("k{name}")).collect();
        let schema = json!({ "additionalProperties": { "required": required } });
        let given = |count: usize| (0..count).map(|name| (format!("m{name}"), json!({}))).collect();
        for (count, expected) in [(1_000, "too large to locate"), (10_000, "too large to validate")]
        {
            let errors = resolve(&schema, given(count)).expect_err("invalid settings");
            assert!(errors.iter().any(|error| error.to_string().contains(expected)), "{errors:?}");
        }
    }
}

//! A plugin's settings: `key=value` as it is written, checked against the plugin's schema.

use crate::schema_annotations::Place;
use crate::schema_limits::{self, Budget};
use reloader_util::sanitize::sanitize;
use serde_json::{Map, Value};

/// Something is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SettingError {
    /// With dots between the levels; `None`: it is none in particular, or missing.
    setting: Option<String>,
    text: String,
}

/// Whoever makes more mistakes than this is told of these first.
const ERRORS_MAX: usize = 20;

impl SettingError {
    /// On one line, and not too long: half of it may be the words of the plugin's author.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self { setting: None, text: sanitize(text.as_ref()) }
    }

    /// It is about this setting, with dots between the levels.
    pub fn about(self, setting: impl Into<String>) -> Self {
        Self { setting: Some(setting.into()), ..self }
    }

    /// The setting that is wrong, with dots between the levels; `None`: none in particular, or one that
    /// is missing.
    #[must_use]
    pub fn setting(&self) -> Option<&str> {
        self.setting.as_deref()
    }

    /// With other words for the same.
    pub fn map(self, words: impl FnOnce(&str) -> String) -> Self {
        Self { text: sanitize(&words(&self.text)), ..self }
    }
}

/// Turns `key=value` pairs into a JSON object, by the types in the schema: a value that is to be a
/// string is taken as it stands, any other is read as JSON.
///
/// # Errors
///
/// One for each pair that has no `=`, or whose value cannot be of its type.
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
        let place = Place::all(schema).member(name);
        let value = match place.says("type").and_then(Value::as_str) {
            Some("string") => Ok(Value::String(text.into())),
            // What it stands for is of that type.
            Some(_) if text.contains("${") => Ok(Value::String(text.into())),
            Some(_) => serde_json::from_str(text).map_err(|_| {
                let got =
                    if place.hides_anything() { String::new() } else { format!(", got `{text}`") };
                SettingError::new(format!("setting `{name}`: expected {}{got}", kind(&place)))
            }),
            // Not in the schema, or there is none: JSON if it is, else text.
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

/// What a reference stands for is text, and may be meant as a number, for example.
pub fn typed(place: &Place<'_>, text: String) -> Value {
    match place.says("type").and_then(Value::as_str) {
        None | Some("string") => text.into(),
        Some(_) => serde_json::from_str(&text).unwrap_or_else(|_| text.into()),
    }
}

/// Checks settings against the schema, and fills in its defaults.
///
/// # Errors
///
/// All that is wrong, each with what was expected.
pub fn resolve(schema: &Value, given: Map<String, Value>) -> Result<Value, Vec<SettingError>> {
    let mut settings = given;
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            if let (false, Some(default)) = (settings.contains_key(name), property.get("default")) {
                settings.insert(name.clone(), default.clone());
            }
        }
    }
    let mut errors = names(schema, &settings);
    let settings = Value::Object(settings);
    let compiled = schema_limits::compile(schema).map_err(|why| {
        vec![SettingError::new(format!("the plugin's schema cannot be used: {why}"))]
    })?;
    let validator = &compiled.validator;
    match compiled.budget(&settings) {
        Budget::CollectErrors => {}
        Budget::ValidityOnly if validator.is_valid(&settings) => {
            return if errors.is_empty() { Ok(settings) } else { Err(errors) };
        }
        Budget::ValidityOnly => {
            errors.push(SettingError::new(
                "the settings do not fit the plugin's schema; both are too large to tell where",
            ));
            return Err(errors);
        }
        Budget::Exceeded => {
            errors.push(SettingError::new(
                "the settings are too large to be checked against the plugin's schema",
            ));
            return Err(errors);
        }
    }
    let mut together = None;
    for error in validator.iter_errors(&settings) {
        if errors.len() >= ERRORS_MAX {
            break;
        }
        let at = error.instance_path().as_str();
        let path = at.trim_start_matches('/').replace('/', ".");
        // What concerns the object as a whole is mostly names that are missing or unknown: said above.
        if path.is_empty() {
            together.get_or_insert_with(|| error.schema_path().to_string());
            continue;
        }
        let (place, is_hidden) = find(schema, &settings, at);
        let got =
            if is_hidden { String::new() } else { format!(", got `{}`", text(error.instance())) };
        let text = format!("setting `{path}`: expected {}{got}", kind(&place));
        errors.push(SettingError::new(text).about(path));
    }
    match together {
        Some(rule) if errors.is_empty() => Err(vec![SettingError::new(format!(
            "each of the settings is sound, but all of them together are not what the plugin's schema \
             asks for at `{rule}`"
        ))]),
        _ if errors.is_empty() => Ok(settings),
        _ => Err(errors),
    }
}

/// The settings that are missing, and those that nobody knows.
fn names(schema: &Value, settings: &Map<String, Value>) -> Vec<SettingError> {
    let mut errors = Vec::new();
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required.filter(|name| !settings.contains_key(*name)).take(ERRORS_MAX) {
        let place = Place::all(schema).member(name);
        let help = place.says("description").and_then(Value::as_str).unwrap_or_default();
        errors.push(SettingError::new(format!(
            "setting `{name}` is missing: expected {}. {help}",
            kind(&place)
        )));
    }
    if schema["additionalProperties"] == false && schema["patternProperties"].is_null() {
        for name in settings.keys().filter(|name| !properties.contains_key(*name)) {
            let nearest = properties
                .keys()
                .map(|known| (strsim::damerau_levenshtein(known, name), known))
                .filter(|(distance, _)| *distance <= 2)
                .min();
            let hint = match nearest {
                Some((_, known)) => format!("; did you mean `{known}`?"),
                None => {
                    let all: Vec<_> = properties.keys().map(|known| format!("`{known}`")).collect();
                    format!("; there are {}", all.join(", "))
                }
            };
            let text = format!("unknown setting `{name}`{hint}");
            errors.push(SettingError::new(text).about(name));
        }
    }
    errors
}

/// A place in the settings, by its JSON pointer, and whether what is there is not to be shown: a mark
/// stands for all that is below it, and there may be marks within.
fn find<'a>(schema: &'a Value, settings: &Value, pointer: &str) -> (Place<'a>, bool) {
    let (mut place, mut value) = (Place::all(schema), settings);
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

/// What the value at a place is to be, in words.
pub fn kind(place: &Place<'_>) -> String {
    let word = |keyword| place.says(keyword).and_then(Value::as_str);
    if let Some(names) = place.says("enum").and_then(Value::as_array) {
        let names: Vec<_> = names.iter().map(|name| format!("`{}`", text(name))).collect();
        return format!("one of {}", names.join(", "));
    }
    let range = match (place.says("minimum"), place.says("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" from {least} up"),
        (None, Some(most)) => format!(" up to {most}"),
        (None, None) => String::new(),
    };
    match word("type") {
        Some("integer") => format!("a whole number{range}"),
        Some("number") => format!("a number{range}"),
        Some("boolean") => "`true` or `false`".into(),
        Some("array") => match place.item(0).says("type").and_then(Value::as_str) {
            Some("integer" | "number") => "a JSON array, e.g. `[1,2]`".into(),
            _ => "a JSON array, e.g. `[\"a\",\"b\"]`".into(),
        },
        Some("object") => "a JSON object, e.g. `{\"name\":\"value\"}`".into(),
        _ if place.schemes().is_some() => "a URL".into(),
        _ if place.is_read() => "a path".into(),
        _ => "text".into(),
    }
}

fn text(value: &Value) -> String {
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

    fn checked(pairs: &[&str]) -> Result<Value, String> {
        let words = |errors: Vec<SettingError>| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let settings = parse_pairs(&schema(), pairs.iter().copied()).map_err(words)?;
        resolve(&schema(), settings).map_err(words)
    }

    #[test]
    fn values_are_of_the_types_in_the_schema_and_defaults_are_filled_in() {
        let settings = checked(&["url=redis://h", "key=1", r#"headers={"a":"b"}"#]).expect("fine");
        assert_eq!(
            settings,
            json!({ "url": "redis://h", "key": "1", "headers": { "a": "b" }, "database": 0 })
        );
    }

    #[test]
    fn each_mistake_is_named_with_what_was_expected() {
        let cases: [(&[&str], &str); 9] = [
            (&["url"], "`url`: expected key=value"),
            (&[], "setting `url` is missing: expected a URL. Where."),
            (
                &["url=redis://h", "databse=1"],
                "unknown setting `databse`; did you mean `database`?",
            ),
            (
                &["url=redis://h", "zzz=1"],
                "unknown setting `zzz`; there are `url`, `key`, `database`, `kind`, `password`, \
                 `headers`",
            ),
            (
                &["url=redis://h", "database=x"],
                "setting `database`: expected a whole number from 0 to 255, got `x`",
            ),
            (
                &["url=redis://h", "database=300"],
                "setting `database`: expected a whole number from 0 to 255, got `300`",
            ),
            (&["url=redis://h", "kind=c"], "setting `kind`: expected one of `a`, `b`, got `c`"),
            (&["url=redis://h", "url=redis://i"], "setting `url` is given twice"),
            (
                &["url=redis://h", r#"headers={"a":1}"#],
                "setting `headers.a`: expected text, got `1`",
            ),
        ];
        for (pairs, expected) in cases {
            assert_eq!(checked(pairs).expect_err("a mistake"), expected, "{pairs:?}");
        }
    }

    fn mistakes(schema: &Value, settings: Value) -> Vec<String> {
        let Value::Object(settings) = settings else { panic!("settings are an object") };
        let errors = resolve(schema, settings).expect_err("a mistake");
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_setting_that_is_required_but_not_described_is_missing_like_any_other() {
        for schema in [json!({ "required": ["a"] }), json!({ "required": ["a"], "properties": {} })]
        {
            let expected = ["setting `a` is missing: expected text. "];
            assert_eq!(mistakes(&schema, json!({})), expected);
        }
    }

    #[test]
    fn settings_that_are_wrong_only_together_are_refused_too() {
        let schema = json!({ "properties": { "a": {}, "b": {} }, "maxProperties": 1 });
        let mistakes = mistakes(&schema, json!({ "a": 1, "b": 2 }));
        assert!(mistakes[0].contains("all of them together"), "{mistakes:?}");
        assert!(mistakes[0].ends_with("at `/maxProperties`"), "{mistakes:?}");
    }

    #[test]
    fn names_may_be_given_by_patterns() {
        let schema = json!({ "additionalProperties": false, "patternProperties": { "^x-": {} } });
        let resolve = |settings| resolve(&schema, Map::from_iter([settings]));
        assert!(resolve(("x-a".into(), json!(1))).is_ok());
        assert!(resolve(("a".into(), json!(1))).is_err());
    }

    #[test]
    fn a_secret_is_not_shown_with_what_is_around_it() {
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
            let shown = mistakes(&schema, settings).join("\n");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        let unfinished = parse_pairs(&schema, ["login={\"password\":\"hunter2\""]);
        assert!(!format!("{:?}", unfinished.expect_err("no JSON")).contains("hunter2"));
    }

    #[test]
    fn a_schema_cannot_flood_who_reads_what_is_wrong() {
        let names: Vec<_> =
            (0..1000).map(|index| format!("{index}{}", "x".repeat(100_000))).collect();
        let all = mistakes(&json!({ "required": names }), json!({}));
        assert_eq!(all.len(), ERRORS_MAX);
        assert!(all.iter().all(|mistake| mistake.len() < 5000));
    }

    /// Collecting the 3,000,000 errors took 1.2 GiB.
    #[test]
    fn errors_of_large_settings_are_not_collected() {
        let required: Vec<_> = (0..3_000).map(|name| format!("k{name}")).collect();
        let schema = json!({ "additionalProperties": { "required": required } });
        let given = |count: usize| (0..count).map(|name| (format!("m{name}"), json!({}))).collect();
        for (count, expected) in [(1_000, "too large to tell where"), (10_000, "to be checked")] {
            let errors = resolve(&schema, given(count)).expect_err("not valid");
            assert!(errors.iter().any(|error| error.to_string().contains(expected)), "{errors:?}");
        }
    }
}

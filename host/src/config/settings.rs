//! A plugin's settings: `key=value` as it is written, checked against the plugin's schema.

use crate::text::tidy;
use serde_json::{Map, Value};

/// Something is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingError(String);

impl SettingError {
    pub(crate) fn new(message: String) -> Self {
        Self(message)
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
            errors.push(SettingError(format!("`{pair}`: expected key=value")));
            continue;
        };
        let property = &schema["properties"][name];
        let value = match property["type"].as_str() {
            Some("string") => Ok(Value::String(text.into())),
            Some(_) => serde_json::from_str(text).map_err(|_| {
                let secret = property["x-secret"] == true;
                let got = if secret { String::new() } else { format!(", got `{text}`") };
                SettingError(format!("setting `{name}`: expected {}{got}", kind(property)))
            }),
            // Not in the schema, or there is none: JSON if it is, else text.
            None => Ok(serde_json::from_str(text).unwrap_or_else(|_| text.into())),
        };
        match value {
            Ok(_) if settings.contains_key(name) => {
                errors.push(SettingError(format!("setting `{name}` is given twice")));
            }
            Ok(value) => {
                settings.insert(name.into(), value);
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(settings) } else { Err(errors) }
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
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| tidy(&format!("the plugin's schema is broken: {error}")))
        .map_err(|error| vec![SettingError(error)])?;
    for error in validator.iter_errors(&settings) {
        let at = error.instance_path().as_str();
        let path = at.trim_start_matches('/').replace('/', ".");
        // What concerns the object as a whole, names that are missing or unknown, is said above.
        if path.is_empty() {
            continue;
        }
        let top = &schema["properties"][path.split('.').next().unwrap_or_default()];
        let property = part(schema, at);
        let hidden = [top, property].iter().any(|p| p["x-secret"] == true)
            || property["x-connect"].is_object();
        let got = if hidden {
            String::new()
        } else {
            format!(", got `{}`", tidy(&text(error.instance())))
        };
        errors.push(SettingError(format!("setting `{path}`: expected {}{got}", kind(property))));
    }
    if errors.is_empty() { Ok(settings) } else { Err(first(errors)) }
}

/// The settings that are missing, and those that nobody knows.
fn names(schema: &Value, settings: &Map<String, Value>) -> Vec<SettingError> {
    let mut errors = Vec::new();
    let Some(properties) = schema["properties"].as_object() else { return errors };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !settings.contains_key(name) {
            let property = &properties[name];
            let help = property["description"].as_str().unwrap_or_default();
            errors.push(SettingError(format!(
                "setting `{name}` is missing: expected {}. {help}",
                kind(property)
            )));
        }
    }
    if schema["additionalProperties"] == false {
        for name in settings.keys().filter(|name| !properties.contains_key(*name)) {
            let nearest = properties
                .keys()
                .map(|known| (strsim::damerau_levenshtein(known, name), known))
                .filter(|(distance, _)| *distance <= 2)
                .min();
            let hint = match nearest {
                Some((_, known)) => format!("; did you mean `{known}`?"),
                None => {
                    let all = properties.keys().map(|known| format!("`{known}`"));
                    format!("; there are {}", list(all))
                }
            };
            errors.push(SettingError(format!("unknown setting `{name}`{hint}")));
        }
    }
    errors
}

/// The part of the schema that stands for a part of the settings.
fn part<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('/').filter(|name| !name.is_empty()).fold(schema, |schema, name| {
        let candidates =
            [&schema["properties"][name], &schema["additionalProperties"], &schema["items"]];
        candidates.into_iter().find(|part| part.is_object()).unwrap_or(&Value::Null)
    })
}

/// What a property's value is to be, in words.
pub(crate) fn kind(property: &Value) -> String {
    if let Some(names) = property["enum"].as_array() {
        return format!("one of {}", list(names.iter().map(|name| format!("`{}`", text(name)))));
    }
    let range = match (property.get("minimum"), property.get("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" from {least} up"),
        (None, Some(most)) => format!(" up to {most}"),
        (None, None) => String::new(),
    };
    match property["type"].as_str() {
        Some("integer") => format!("a whole number{range}"),
        Some("number") => format!("a number{range}"),
        Some("boolean") => "`true` or `false`".into(),
        Some("array") => match property["items"]["type"].as_str() {
            Some("integer" | "number") => "a JSON array, e.g. `[1,2]`".into(),
            _ => "a JSON array, e.g. `[\"a\",\"b\"]`".into(),
        },
        Some("object") => "a JSON object, e.g. `{\"name\":\"value\"}`".into(),
        _ if property["x-connect"].is_object() => "a URL".into(),
        _ if property["x-read"] == true => "a path".into(),
        _ => "text".into(),
    }
}

/// More names or mistakes than this are only counted: a schema is a stranger's.
const LISTED: usize = 32;

/// Names, one after the other.
fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let mut listed = names.take(LISTED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        listed.push_str(&format!(" and {more} more"));
    }
    listed
}

/// Mistakes, those first that were found first.
fn first(mut errors: Vec<SettingError>) -> Vec<SettingError> {
    let more = errors.len().saturating_sub(LISTED);
    errors.truncate(LISTED);
    if more > 0 {
        errors.push(SettingError(format!("and {more} more")));
    }
    errors
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
    fn what_a_stranger_lists_is_not_all_said() {
        let names: Vec<_> = (0..1_000).map(|number| format!("p{number}")).collect();
        let all: Map<_, _> = names.iter().map(|name| (name.clone(), json!({}))).collect();
        let closed = json!({ "properties": all, "additionalProperties": false });
        let given = json!({ "unheard-of": 1 });
        let errors = resolve(&closed, given.as_object().cloned().unwrap_or_default());
        let errors = errors.expect_err("a mistake");
        assert!(errors[0].to_string().ends_with("`p31` and 968 more"), "{}", errors[0]);
        let all_required = json!({ "properties": all, "required": names });
        let errors = resolve(&all_required, Map::new()).expect_err("mistakes");
        assert_eq!(errors.len(), LISTED + 1);
        assert_eq!(errors[LISTED].to_string(), "and 968 more");
        assert!(kind(&json!({ "enum": names })).ends_with("`p31` and 968 more"));
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
}

//! Deserialisation with error recovery: reports all errors of a part of a document, and not only the first.

use super::{
    diagnostics::Diagnostic,
    spanned_toml::{Document, child_pointer},
    unknown_name::unknown_name,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// Deserialises the value at a JSON pointer. Adds an error for each invalid part. Returns the value without the
/// invalid parts, or `None` if this is not possible, for example because a required field is missing.
///
/// serde stops at the first error. So the function removes the invalid part, and deserialises the value again.
pub(crate) fn deserialize_with_recovery<T: DeserializeOwned>(
    document: &Document,
    at: &str,
    mut value: Value,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    let mut removed: Vec<String> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(&value) {
            Ok(typed) => return Some(typed),
            Err(error) => error,
        };
        let path = pointer(error.path());
        let message = error.inner().to_string();
        let pointer = format!("{at}{path}");
        if let Some(field) = between(&message, "missing field `", "`") {
            // serde also reports a field as missing if this loop has removed it. That field was already reported as
            // invalid.
            if !removed.contains(&child_pointer(&path, field)) {
                let span = document.key_span(&pointer);
                let message = format!("`{field}` is missing");
                diagnostics.push(Diagnostic { span, message });
            }
            return None;
        }
        let (span, message) = if message.starts_with("unknown field") {
            (document.key_span(&pointer), unknown_field(&message))
        } else {
            (document.value_span(&pointer), invalid_value(&path, &message))
        };
        diagnostics.push(Diagnostic { span, message });
        if !remove(&mut value, &path) {
            return None;
        }
        removed.push(path);
    }
}

/// Rewords the message of serde about an invalid value for operators, and adds the name of the key.
fn invalid_value(path: &str, message: &str) -> String {
    let message = message.replace("invalid type: ", "got ").replace("invalid value: ", "got ");
    let message = message.replace("unknown variant ", "invalid value ");
    let number = "expected a non-negative integer";
    let message = message.replace("expected u32", number).replace("expected u64", number);
    let name = path.rsplit('/').find(|name| name.parse::<usize>().is_err() && !name.is_empty());
    match name {
        Some(name) => format!("`{name}`: {message}"),
        None => message,
    }
}

/// Converts "unknown field `a`, expected one of `b`, `c`" to a message with a suggestion.
fn unknown_field(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let name = names.next().unwrap_or_default();
    let known: Vec<_> = names.collect();
    unknown_name("key", name, &known)
}

/// Returns the part of a text between two markers.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(name, _)| name)
}

/// Converts a path of serde to a JSON pointer.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer = child_pointer(&pointer, index),
            Segment::Map { key } => pointer = child_pointer(&pointer, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// Removes the value at a JSON pointer. Returns whether something was removed.
fn remove(value: &mut Value, pointer: &str) -> bool {
    let Some((around, name)) = pointer.rsplit_once('/') else { return false };
    match value.pointer_mut(around) {
        Some(Value::Object(members)) => {
            members.shift_remove(&name.replace("~1", "/").replace("~0", "~")).is_some()
        }
        // Removing an item would shift the positions of the next items, so the whole array is removed.
        Some(Value::Array(_)) => remove(value, around),
        _ => false,
    }
}

//! From a part of a document to a type, with all that is wrong with it and not the first thing alone.

use super::{
    diagnostics::Mistake,
    spanned_toml::{Document, below},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// What is at a pointer, as a `T`, as far as it is right; and everything that is wrong with it.
///
/// serde ends at the first mistake. So that one is noted and taken out, and what is left is tried again.
pub(crate) fn read<T: DeserializeOwned>(
    document: &Document,
    at: &str,
    mut value: Value,
    mistakes: &mut Vec<Mistake>,
) -> Option<T> {
    let mut wrong: Vec<String> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(&value) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let path = pointer(error.path());
        let message = error.inner().to_string();
        let pointer = format!("{at}{path}");
        if let Some(field) = between(&message, "missing field `", "`") {
            // What was taken out is not missing.
            if !wrong.contains(&below(&path, field)) {
                let at = document.key_span(&pointer);
                mistakes.push(Mistake { at, message: format!("`{field}` is missing") });
            }
            return None;
        }
        let is_name = message.starts_with("unknown field");
        let at = if is_name { document.key_span(&pointer) } else { document.value_span(&pointer) };
        let message = if is_name { unknown(&message) } else { said_of(&path, &message) };
        mistakes.push(Mistake { at, message });
        if !remove(&mut value, &path) {
            return None;
        }
        wrong.push(path);
    }
}

/// What was expected where, in words.
fn said_of(path: &str, message: &str) -> String {
    let message = message.replace("invalid type: ", "got ").replace("invalid value: ", "got ");
    let number = "expected a whole number from 0";
    let message = message.replace("expected u32", number).replace("expected u64", number);
    let name = path.rsplit('/').find(|name| name.parse::<usize>().is_err() && !name.is_empty());
    match name {
        Some(name) => format!("`{name}`: {message}"),
        None => message,
    }
}

/// "unknown field `a`, expected one of `b`, `c`", with what was meant, perhaps.
fn unknown(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let name = names.next().unwrap_or_default();
    let known: Vec<_> = names.collect();
    did_you_mean("key", name, &known)
}

/// A name that nobody knows; and the nearest one, or all there are.
pub(crate) fn did_you_mean(what: &str, name: &str, known: &[&str]) -> String {
    let distances = known.iter().map(|known| (strsim::damerau_levenshtein(known, name), known));
    let hint = match distances.filter(|(distance, _)| *distance <= 2).min() {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; there are `{}`", known.join("`, `")),
    };
    format!("unknown {what} `{name}`{hint}")
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(name, _)| name)
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer = below(&pointer, index),
            Segment::Map { key } => pointer = below(&pointer, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// Takes out what is at a pointer.
fn remove(value: &mut Value, pointer: &str) -> bool {
    let Some((around, name)) = pointer.rsplit_once('/') else { return false };
    match value.pointer_mut(around) {
        Some(Value::Object(members)) => {
            members.shift_remove(&name.replace("~1", "/").replace("~0", "~")).is_some()
        }
        // Whatever comes after it has to stay where it is, so the list goes.
        Some(Value::Array(_)) => remove(value, around),
        _ => false,
    }
}

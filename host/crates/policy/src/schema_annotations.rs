//! What a plugin's schema says of a place in the settings. This is the one way through a schema: for what
//! is granted, for what is not shown, and for what is said of mistakes.
//!
//! A place may be described by several parts of the schema. Those that hold in any case (the schema
//! itself, what `$ref` leads to, `allOf`) say what it is. Of those that may hold or not (`anyOf`, `oneOf`,
//! `if` and the like) nothing is granted; but what one of them calls a secret is one.
//!
//! The schema is a stranger's, and need not have been checked: each of its parts is looked at once,
//! whatever refers to it, and a reference that leads nowhere stands for a secret.

use serde_json::{Map, Value};
use std::{
    collections::{HashSet, VecDeque},
    ptr,
};

/// A place in the settings, with all that the schema says of it.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    schema: &'a Value,
    /// Outermost first.
    parts: Vec<Part<'a>>,
    /// Whether there is more to it, which cannot be found.
    is_unclear: bool,
}

#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    schema: &'a Value,
    /// Whether it holds in any case.
    holds: bool,
}

impl<'a> Part<'a> {
    fn perhaps(schema: &'a Value) -> Self {
        Self { schema, holds: false }
    }

    fn get(&self, keyword: &str) -> Option<&'a Value> {
        self.schema.get(keyword)
    }

    /// Another part, which holds if this one does.
    fn and(&self, schema: &'a Value) -> Self {
        Self { schema, ..*self }
    }
}

impl<'a> Place<'a> {
    /// All of the settings.
    pub fn all(schema: &'a Value) -> Self {
        Self::of(schema, [Part { schema, holds: true }])
    }

    fn of(schema: &'a Value, parts: impl IntoIterator<Item = Part<'a>>) -> Self {
        let mut place = Self { schema, parts: Vec::new(), is_unclear: false };
        let mut left: VecDeque<_> = parts.into_iter().collect();
        let mut seen = HashSet::new();
        while let Some(part) = left.pop_front() {
            if seen.insert((ptr::from_ref(part.schema), part.holds)) {
                place.add(part, &mut left);
            }
        }
        place
    }

    /// Takes in a part; what else it leads to, for the same place, goes to `left`.
    fn add(&mut self, part: Part<'a>, left: &mut VecDeque<Part<'a>>) {
        for (keyword, value) in part.schema.as_object().into_iter().flatten() {
            match (keyword.as_str(), value) {
                ("$ref", Value::String(to)) => match definition(self.schema, to) {
                    Some(definition) => left.push_back(part.and(definition)),
                    None => self.is_unclear = true,
                },
                ("$dynamicRef" | "$recursiveRef", _) => self.is_unclear = true,
                ("allOf", Value::Array(all)) => left.extend(all.iter().map(|one| part.and(one))),
                ("anyOf" | "oneOf", Value::Array(some)) => {
                    left.extend(some.iter().map(Part::perhaps));
                }
                ("if" | "then" | "else" | "not", one) => left.push_back(Part::perhaps(one)),
                ("dependentSchemas" | "dependencies", Value::Object(some)) => {
                    left.extend(some.values().map(Part::perhaps));
                }
                _ => {}
            }
        }
        self.parts.push(part);
    }

    /// The place of a member, of an object that is here.
    pub fn member(&self, name: &str) -> Self {
        let mut parts = Vec::new();
        for part in &self.parts {
            let patterns = part.get("patternProperties").and_then(Value::as_object);
            match (part.get("properties").and_then(|known| known.get(name)), patterns) {
                (Some(known), _) => parts.push(part.and(known)),
                (None, None) => {
                    parts.extend(part.get("additionalProperties").map(|other| part.and(other)));
                }
                // If no pattern fits.
                (None, Some(_)) => {
                    parts.extend(part.get("additionalProperties").map(Part::perhaps));
                }
            }
            parts.extend(patterns.into_iter().flat_map(Map::values).map(Part::perhaps));
            parts.extend(part.get("unevaluatedProperties").map(Part::perhaps));
        }
        self.within(parts)
    }

    /// The place of an item, of an array that is here.
    pub fn item(&self, index: usize) -> Self {
        let mut parts = Vec::new();
        for part in &self.parts {
            let items = part.get("items");
            let first = part.get("prefixItems").or(items).and_then(Value::as_array);
            let others = if items.is_some_and(Value::is_array) {
                part.get("additionalItems")
            } else {
                items
            };
            let own = first.and_then(|first| first.get(index)).or(others);
            parts.extend(own.map(|own| part.and(own)));
            let perhaps = ["contains", "unevaluatedItems"];
            parts.extend(perhaps.iter().filter_map(|word| part.get(word)).map(Part::perhaps));
        }
        self.within(parts)
    }

    fn within(&self, parts: Vec<Part<'a>>) -> Self {
        let mut place = Self::of(self.schema, parts);
        place.is_unclear |= self.is_unclear;
        place
    }

    /// What is said with this word, by the first part that says something.
    pub fn says(&self, keyword: &str) -> Option<&'a Value> {
        self.certain(keyword).next()
    }

    fn certain(&self, keyword: &str) -> impl Iterator<Item = &'a Value> {
        self.parts.iter().filter(|part| part.holds).filter_map(move |part| part.get(keyword))
    }

    /// Whether a text here names a file that is read.
    pub fn is_read(&self) -> bool {
        self.certain("x-read").any(|mark| mark == true)
    }

    /// If a text here is a URL that is connected to: its schemes, and what stands there of their ports.
    pub fn schemes(&self) -> Option<Vec<(&'a str, &'a Value)>> {
        let mut marks = self.certain("x-connect").filter_map(Value::as_object).peekable();
        marks.peek()?;
        Some(marks.flatten().map(|(scheme, port)| (scheme.as_str(), port)).collect())
    }

    /// Whether it may be a URL that is connected to. There may be a password in it.
    pub fn may_be_url(&self) -> bool {
        self.parts.iter().any(|part| is_url(part.schema))
    }

    /// Whether it is a secret, or may be one.
    pub fn is_secret(&self) -> bool {
        self.is_unclear || self.parts.iter().any(|part| is_secret(part.schema))
    }

    /// Whether what is here is not for everybody's eyes, with all that is within.
    pub fn hides_anything(&self) -> bool {
        let mut seen = HashSet::new();
        let mut left: Vec<_> = self.parts.iter().map(|part| part.schema).collect();
        while let Some(value) = left.pop() {
            if !seen.insert(ptr::from_ref(value)) {
                continue;
            }
            match value {
                Value::Array(items) => left.extend(items),
                Value::Object(_) if is_secret(value) || is_url(value) => return true,
                Value::Object(members) => {
                    for (keyword, value) in members {
                        match (keyword.as_str(), value) {
                            ("$ref", Value::String(to)) => match definition(self.schema, to) {
                                Some(definition) => left.push(definition),
                                None => return true,
                            },
                            ("$dynamicRef" | "$recursiveRef", _) => return true,
                            (_, value) => left.push(value),
                        }
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        self.is_unclear
    }
}

fn is_secret(part: &Value) -> bool {
    part["x-secret"] == true
}

fn is_url(part: &Value) -> bool {
    part["x-connect"].is_object()
}

/// What a reference leads to: a definition, by a name that need not be decoded first, which others might
/// decode to something else.
pub fn definition<'a>(schema: &'a Value, to: &str) -> Option<&'a Value> {
    let (place, name) = to.strip_prefix("#/")?.split_once('/')?;
    let is_plain = matches!(place, "$defs" | "definitions") && !name.contains(['/', '~', '%']);
    schema.get(place)?.get(name).filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A schema in which the setting `a` is described by this.
    fn described(a: &Value) -> Value {
        json!({
            "properties": { "a": a },
            "$defs": {
                "secret": { "type": "string", "x-secret": true },
                "url": { "x-connect": { "redis": 6379 } },
                "file": { "x-read": true },
                "further": { "allOf": [{ "$ref": "#/$defs/secret" }, { "$ref": "#/$defs/url" }] },
                "circle": { "$ref": "#/$defs/round" },
                "round": { "allOf": [{ "$ref": "#/$defs/circle" }, { "$ref": "#/$defs/file" }] },
                "holder": { "properties": { "b": { "$ref": "#/$defs/further" } } },
            },
        })
    }

    #[test]
    fn marks_are_found_behind_references_and_nothing_is_granted_by_what_may_not_hold() {
        // Whether it is a secret, is connected to, and is read.
        for (a, secret, connect, read) in [
            (json!({}), false, false, false),
            (json!(true), false, false, false),
            (json!({ "x-secret": true, "x-read": true }), true, false, true),
            (json!({ "x-secret": "true", "x-read": 1 }), false, false, false),
            (json!({ "$ref": "#/$defs/secret" }), true, false, false),
            (json!({ "$ref": "#/$defs/url", "x-read": true }), false, true, true),
            (json!({ "$ref": "#/$defs/further" }), true, true, false),
            (json!({ "$ref": "#/$defs/circle" }), false, false, true),
            (json!({ "allOf": [{}, { "allOf": [{ "x-read": true }] }] }), false, false, true),
            (json!({ "anyOf": [{ "$ref": "#/$defs/further" }, {}] }), true, false, false),
            (json!({ "oneOf": [{ "x-read": true }, { "x-secret": true }] }), true, false, false),
            (json!({ "if": {}, "then": { "$ref": "#/$defs/secret" } }), true, false, false),
            (json!({ "else": { "x-connect": {} }, "not": {} }), false, false, false),
            (json!({ "allOf": [{ "anyOf": [{ "x-read": true }] }] }), false, false, false),
            (json!({ "anyOf": [{ "allOf": [{ "x-secret": true }] }] }), true, false, false),
            // What cannot be found may be anything; it is no more than a secret.
            (json!({ "$ref": "#/$defs/none" }), true, false, false),
            (json!({ "$ref": "#/properties/a" }), true, false, false),
            (json!({ "$ref": "#/$defs/sec%72et" }), true, false, false),
            (json!({ "$ref": "http://example.com/" }), true, false, false),
            (json!({ "$dynamicRef": "#a" }), true, false, false),
        ] {
            let schema = described(&a);
            let place = Place::all(&schema).member("a");
            let found = (place.is_secret(), place.schemes().is_some(), place.is_read());
            assert_eq!(found, (secret, connect, read), "{a}");
        }
    }

    #[test]
    fn the_way_leads_through_members_and_items() {
        let secret = json!({ "x-secret": true });
        let holder = json!({ "$ref": "#/$defs/holder" });
        for (a, path, is_secret) in [
            (holder.clone(), &["b"][..], true),
            (holder.clone(), &["c"], false),
            (json!({ "anyOf": [holder, { "type": "null" }] }), &["b"], true),
            (json!({ "additionalProperties": secret }), &["b"], true),
            (json!({ "additionalProperties": secret, "properties": { "b": {} } }), &["b"], false),
            (json!({ "patternProperties": { "^z": secret } }), &["b"], true),
            (json!({ "unevaluatedProperties": secret }), &["b"], true),
            (json!({ "items": secret }), &["7"], true),
            (json!({ "items": { "items": secret } }), &["7", "0"], true),
            (json!({ "prefixItems": [{}, secret] }), &["0"], false),
            (json!({ "prefixItems": [{}, secret] }), &["1"], true),
            (json!({ "prefixItems": [{}], "items": secret }), &["1"], true),
            (json!({ "items": [{}, secret] }), &["1"], true),
            (json!({ "items": [{}], "additionalItems": secret }), &["1"], true),
            (json!({ "contains": secret }), &["1"], true),
            (json!({ "$ref": "#/$defs/none" }), &["b", "0"], true),
        ] {
            let schema = described(&a);
            let place = path.iter().fold(Place::all(&schema).member("a"), |place, step| {
                step.parse().map_or_else(|_| place.member(step), |index| place.item(index))
            });
            assert_eq!(place.is_secret(), is_secret, "{a} at {path:?}");
        }
    }

    #[test]
    fn what_hides_something_within_is_not_shown() {
        for (a, hides) in [
            (json!({}), false),
            (json!({ "$ref": "#/$defs/file" }), false),
            (json!({ "$ref": "#/$defs/circle" }), false),
            (json!({ "$ref": "#/$defs/holder" }), true),
            (json!({ "items": { "oneOf": [{}, { "$ref": "#/$defs/holder" }] } }), true),
            (json!({ "properties": { "b": { "x-connect": {} } } }), true),
            (json!({ "properties": { "b": { "$ref": "#/$defs/none" } } }), true),
        ] {
            let schema = described(&a);
            assert_eq!(Place::all(&schema).member("a").hides_anything(), hides, "{a}");
        }
    }

    #[test]
    fn a_schema_that_unfolds_without_end_takes_no_longer_than_it_is_long() {
        let mut definitions = Map::new();
        for level in 0..2_000 {
            let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
            definitions.insert(level.to_string(), json!({ "allOf": [next, next] }));
        }
        definitions.insert("2000".into(), json!({ "x-secret": true }));
        let schema = json!({ "$ref": "#/$defs/0", "$defs": definitions });
        assert!(Place::all(&schema).is_secret());
        assert!(Place::all(&schema).hides_anything());
    }
}

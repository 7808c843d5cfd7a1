//! JSON Schema annotations of a plugin's settings: `x-read`, `x-connect`, `x-secret` and the standard keywords.
//!
//! All lookups of a setting in a schema use [`Place`]: to find implied grants, to hide secrets in messages, and to
//! describe the expected value.
//!
//! Several subschemas may apply to one place in the settings. Unconditional subschemas always apply: the schema
//! itself, the targets of `$ref`, and `allOf`. Their annotations count. Conditional subschemas may apply or
//! not: `anyOf`, `oneOf`, `if` and similar keywords. They imply no grants, but a value that one of them marks
//! as secret is secret.
//!
//! The schema is untrusted and need not be validated first. A lookup visits each subschema once, so reference
//! cycles terminate. A value behind an unresolved reference is treated as secret.

use serde_json::{Map, Value};
use std::{
    collections::{HashSet, VecDeque},
    ptr,
};

/// Place in the settings, with the subschemas that apply to it.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    schema: &'a Value,
    /// Subschemas that apply to the value at this place, outermost first.
    subschemas: Vec<Subschema<'a>>,
    /// Set if a reference on the way to this place is unresolved.
    has_unresolved_reference: bool,
}

#[derive(Debug, Clone, Copy)]
struct Subschema<'a> {
    schema: &'a Value,
    /// Set if the subschema applies to every value.
    is_unconditional: bool,
}

impl<'a> Subschema<'a> {
    fn conditional(schema: &'a Value) -> Self {
        Self { schema, is_unconditional: false }
    }

    fn get(&self, keyword: &str) -> Option<&'a Value> {
        self.schema.get(keyword)
    }

    /// Returns a subschema that applies whenever this one does.
    fn with(&self, schema: &'a Value) -> Self {
        Self { schema, ..*self }
    }
}

impl<'a> Place<'a> {
    /// Returns the place of the whole settings object.
    pub fn root(schema: &'a Value) -> Self {
        Self::new(schema, [Subschema { schema, is_unconditional: true }])
    }

    /// Returns the place to which `subschemas` apply, and all subschemas that they refer to.
    fn new(schema: &'a Value, subschemas: impl IntoIterator<Item = Subschema<'a>>) -> Self {
        let mut place = Self { schema, subschemas: Vec::new(), has_unresolved_reference: false };
        let mut queue: VecDeque<_> = subschemas.into_iter().collect();
        let mut seen = HashSet::new();
        while let Some(subschema) = queue.pop_front() {
            if seen.insert((ptr::from_ref(subschema.schema), subschema.is_unconditional)) {
                place.add(subschema, &mut queue);
            }
        }
        place
    }

    /// Adds a subschema, and queues the subschemas that it applies to the same place.
    fn add(&mut self, subschema: Subschema<'a>, queue: &mut VecDeque<Subschema<'a>>) {
        for (keyword, value) in subschema.schema.as_object().into_iter().flatten() {
            match (keyword.as_str(), value) {
                ("$ref", Value::String(to)) => match definition(self.schema, to) {
                    Some(definition) => queue.push_back(subschema.with(definition)),
                    None => self.has_unresolved_reference = true,
                },
                ("$dynamicRef" | "$recursiveRef", _) => self.has_unresolved_reference = true,
                ("allOf", Value::Array(all)) => {
                    queue.extend(all.iter().map(|schema| subschema.with(schema)));
                }
                ("anyOf" | "oneOf", Value::Array(some)) => {
                    queue.extend(some.iter().map(Subschema::conditional));
                }
                ("if" | "then" | "else" | "not", schema) => {
                    queue.push_back(Subschema::conditional(schema));
                }
                ("dependentSchemas" | "dependencies", Value::Object(some)) => {
                    queue.extend(some.values().map(Subschema::conditional));
                }
                _ => {}
            }
        }
        self.subschemas.push(subschema);
    }

    /// Returns the place of a member of the object at this place.
    pub fn member(&self, name: &str) -> Self {
        let mut found = Vec::new();
        for subschema in &self.subschemas {
            let patterns = subschema.get("patternProperties").and_then(Value::as_object);
            let additional = subschema.get("additionalProperties");
            match (subschema.get("properties").and_then(|known| known.get(name)), patterns) {
                (Some(known), _) => found.push(subschema.with(known)),
                (None, None) => found.extend(additional.map(|other| subschema.with(other))),
                // `additionalProperties` applies only if no pattern matches. Patterns are not evaluated here.
                (None, Some(_)) => found.extend(additional.map(Subschema::conditional)),
            }
            found.extend(patterns.into_iter().flat_map(Map::values).map(Subschema::conditional));
            found.extend(subschema.get("unevaluatedProperties").map(Subschema::conditional));
        }
        self.child(found)
    }

    /// Returns the place of an item of the array at this place.
    pub fn item(&self, index: usize) -> Self {
        let mut found = Vec::new();
        for subschema in &self.subschemas {
            let items = subschema.get("items");
            let prefix = subschema.get("prefixItems").or(items).and_then(Value::as_array);
            let others = if items.is_some_and(Value::is_array) {
                subschema.get("additionalItems")
            } else {
                items
            };
            let item = prefix.and_then(|prefix| prefix.get(index)).or(others);
            found.extend(item.map(|item| subschema.with(item)));
            for keyword in ["contains", "unevaluatedItems"] {
                found.extend(subschema.get(keyword).map(Subschema::conditional));
            }
        }
        self.child(found)
    }

    fn child(&self, subschemas: Vec<Subschema<'a>>) -> Self {
        let mut place = Self::new(self.schema, subschemas);
        place.has_unresolved_reference |= self.has_unresolved_reference;
        place
    }

    /// Returns the value of a keyword in the outermost unconditional subschema that contains it.
    pub fn keyword(&self, keyword: &str) -> Option<&'a Value> {
        self.unconditional(keyword).next()
    }

    /// Returns the values of a keyword in all unconditional subschemas, outermost first.
    fn unconditional(&self, keyword: &str) -> impl Iterator<Item = &'a Value> {
        let subschemas = self.subschemas.iter().filter(|subschema| subschema.is_unconditional);
        subschemas.filter_map(move |subschema| subschema.get(keyword))
    }

    /// Returns whether a string at this place names a file to read (`x-read`).
    pub fn is_read(&self) -> bool {
        self.unconditional("x-read").any(|annotation| annotation == true)
    }

    /// Returns the URL schemes and their default ports if a string at this place is a URL to connect to
    /// (`x-connect`). The ports are unchecked JSON.
    pub fn schemes(&self) -> Option<Vec<(&'a str, &'a Value)>> {
        let annotations = self.unconditional("x-connect").filter_map(Value::as_object);
        let mut annotations = annotations.peekable();
        annotations.peek()?;
        Some(annotations.flatten().map(|(scheme, port)| (scheme.as_str(), port)).collect())
    }

    /// Returns whether any subschema marks the value as a URL to connect to, which may contain a password.
    pub fn may_be_url(&self) -> bool {
        self.subschemas.iter().any(|subschema| is_url(subschema.schema))
    }

    /// Returns whether any subschema marks the value as secret (`x-secret`), or a reference is unresolved.
    pub fn is_secret(&self) -> bool {
        self.has_unresolved_reference
            || self.subschemas.iter().any(|subschema| is_secret(subschema.schema))
    }

    /// Returns whether the value, or any value inside it, may be a secret or a URL, so that messages must not
    /// show it.
    pub fn hides_anything(&self) -> bool {
        let mut seen = HashSet::new();
        let mut pending: Vec<_> =
            self.subschemas.iter().map(|subschema| subschema.schema).collect();
        while let Some(value) = pending.pop() {
            if !seen.insert(ptr::from_ref(value)) {
                continue;
            }
            match value {
                Value::Array(items) => pending.extend(items),
                Value::Object(_) if is_secret(value) || is_url(value) => return true,
                Value::Object(members) => {
                    for (keyword, value) in members {
                        match (keyword.as_str(), value) {
                            ("$ref", Value::String(to)) => match definition(self.schema, to) {
                                Some(definition) => pending.push(definition),
                                None => return true,
                            },
                            ("$dynamicRef" | "$recursiveRef", _) => return true,
                            (_, value) => pending.push(value),
                        }
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        self.has_unresolved_reference
    }
}

fn is_secret(subschema: &Value) -> bool {
    subschema["x-secret"] == true
}

fn is_url(subschema: &Value) -> bool {
    subschema["x-connect"].is_object()
}

/// Returns the definition that a reference names: `#/$defs/NAME` or `#/definitions/NAME`.
///
/// Returns `None` for any other reference, including names with escapes, which implementations of JSON Schema
/// decode in different ways.
pub fn definition<'a>(schema: &'a Value, to: &str) -> Option<&'a Value> {
    let (place, name) = to.strip_prefix("#/")?.split_once('/')?;
    let is_plain = matches!(place, "$defs" | "definitions") && !name.contains(['/', '~', '%']);
    schema.get(place)?.get(name).filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Returns a schema in which `a` is the subschema of the setting `a`.
    fn schema_with(a: &Value) -> Value {
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

    /// Annotations behind references and `allOf` count. A conditional subschema implies no grant, but may mark
    /// a secret.
    #[test]
    fn annotation_is_found_through_references() {
        // Columns: subschema, `x-secret`, `x-connect`, `x-read`.
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
            // An unresolved reference marks a secret and implies no grant.
            (json!({ "$ref": "#/$defs/none" }), true, false, false),
            (json!({ "$ref": "#/properties/a" }), true, false, false),
            (json!({ "$ref": "#/$defs/sec%72et" }), true, false, false),
            (json!({ "$ref": "http://example.com/" }), true, false, false),
            (json!({ "$dynamicRef": "#a" }), true, false, false),
        ] {
            let schema = schema_with(&a);
            let place = Place::root(&schema).member("a");
            let found = (place.is_secret(), place.schemes().is_some(), place.is_read());
            assert_eq!(found, (secret, connect, read), "{a}");
        }
    }

    #[test]
    fn annotation_of_nested_value_is_found() {
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
            let schema = schema_with(&a);
            let place = path.iter().fold(Place::root(&schema).member("a"), |place, step| {
                step.parse().map_or_else(|_| place.member(step), |index| place.item(index))
            });
            assert_eq!(place.is_secret(), is_secret, "{a} at {path:?}");
        }
    }

    /// A value is hidden if a value inside it is a secret or a URL, or has an unresolved reference.
    #[test]
    fn value_with_nested_secret_is_hidden() {
        for (a, hides) in [
            (json!({}), false),
            (json!({ "$ref": "#/$defs/file" }), false),
            (json!({ "$ref": "#/$defs/circle" }), false),
            (json!({ "$ref": "#/$defs/holder" }), true),
            (json!({ "items": { "oneOf": [{}, { "$ref": "#/$defs/holder" }] } }), true),
            (json!({ "properties": { "b": { "x-connect": {} } } }), true),
            (json!({ "properties": { "b": { "$ref": "#/$defs/none" } } }), true),
        ] {
            let schema = schema_with(&a);
            assert_eq!(Place::root(&schema).member("a").hides_anything(), hides, "{a}");
        }
    }

    /// A schema that expands to 2^2000 subschemas takes time linear in its own size.
    #[test]
    fn exponential_schema_is_visited_once() {
        let mut definitions = Map::new();
        for level in 0..2_000 {
            let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
            definitions.insert(level.to_string(), json!({ "allOf": [next, next] }));
        }
        definitions.insert("2000".into(), json!({ "x-secret": true }));
        let schema = json!({ "$ref": "#/$defs/0", "$defs": definitions });
        assert!(Place::root(&schema).is_secret());
        assert!(Place::root(&schema).hides_anything());
    }
}

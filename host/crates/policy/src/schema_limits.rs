//! A plugin's schema is a stranger's: what of JSON Schema is understood here, and how much of it.
//!
//! Checking settings must neither take the host's stack, nor its memory, nor its time, whatever the
//! schema says. So before it is used, all its references are followed: they lead to a definition in
//! it, never in a circle, and what they unfold to has an end. Patterns are of the kind that never goes
//! back in the text. Formats are remarks; the plugin itself judges those.

use crate::schema_annotations::definition;
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

/// How many parts a schema may have once its references are unfolded. The bundled plugins' have up to
/// a hundred.
const PARTS_MAX: usize = 10_000;
/// How deep they may be in each other.
const DEPTH_MAX: usize = 64;
/// How many parts a pattern counts as: it takes that much more room and time.
const PATTERN: usize = 100;
/// How much memory a pattern may take once it is compiled, in bytes.
const PATTERN_MAX: usize = 256 * 1024;

/// Maximum number of evaluation steps for which all errors are collected. An error takes about 400 bytes,
/// and each step can make one.
const MAX_COLLECT_STEPS: usize = 100_000;
/// Maximum number of evaluation steps. They take less than a second.
const MAX_STEPS: usize = 20_000_000;

/// How much of a text counts as a value, in bytes.
const TEXT_BYTES_PER_NODE: usize = 64;

/// A compiled schema, and the cost of its evaluation.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) validator: Validator,
    /// Evaluation steps for each part of the settings, at most.
    steps: usize,
}

/// How much the evaluation of a schema on given settings may take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    /// All errors can be collected.
    CollectErrors,
    /// Whether the settings are valid can be determined, without an error's place.
    ValidityOnly,
    /// The settings cannot be checked.
    Exceeded,
}

impl Compiled {
    pub(crate) fn budget(&self, settings: &Value) -> Budget {
        let steps = self.steps.saturating_mul(nodes(settings));
        if steps <= MAX_COLLECT_STEPS {
            Budget::CollectErrors
        } else if steps <= MAX_STEPS {
            Budget::ValidityOnly
        } else {
            Budget::Exceeded
        }
    }
}

/// Returns the number of values and keys. A long text counts as several.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len() / TEXT_BYTES_PER_NODE,
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(members) => members.values().map(|member| 1 + nodes(member)).sum(),
        _ => 0,
    }
}

/// Compiles a schema.
///
/// # Errors
///
/// What is wrong with the schema.
pub(crate) fn compile(schema: &Value) -> Result<Compiled, String> {
    let mut survey = Survey { definitions: schema, left: PARTS_MAX, weight: 1 };
    survey.schema(schema, 0)?;
    let patterns = PatternOptions::regex().size_limit(PATTERN_MAX).dfa_size_limit(PATTERN_MAX);
    jsonschema::options()
        .should_validate_formats(false)
        .with_pattern_options(patterns)
        .build(schema)
        .map(|validator| Compiled { validator, steps: PARTS_MAX - survey.left })
        .map_err(|error| error.to_string())
}

/// A walk through all of a schema, references followed.
struct Survey<'a> {
    definitions: &'a Value,
    /// How many parts there may still be.
    left: usize,
    /// How many parts the present one counts as. `unevaluatedProperties` and `unevaluatedItems` evaluate
    /// all parts beside them again, so each of them doubles it.
    weight: usize,
}

impl<'a> Survey<'a> {
    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<(), String> {
        self.spend(1)?;
        if depth > DEPTH_MAX {
            return Err(format!("it refers to itself, or is more than {DEPTH_MAX} levels deep"));
        }
        let Value::Object(members) = schema else { return Ok(()) };
        let weight = self.weight;
        for keyword in ["unevaluatedProperties", "unevaluatedItems"] {
            if members.contains_key(keyword) {
                self.weight = self.weight.saturating_mul(2);
            }
        }
        self.members(members, depth)?;
        self.weight = weight;
        Ok(())
    }

    fn members(&mut self, members: &'a Map<String, Value>, depth: usize) -> Result<(), String> {
        for (keyword, value) in members {
            match (keyword.as_str(), value) {
                ("$ref", Value::String(to)) => {
                    let definition = definition(self.definitions, to).ok_or_else(|| {
                        format!(
                            "it refers to `{to}`; references lead to `#/$defs/NAME`, and the name must \
                             be there"
                        )
                    })?;
                    self.schema(definition, depth + 1)?;
                }
                ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                    return Err(format!("`{keyword}` is not supported; use `$ref`"));
                }
                // Another root within the schema, to which references would lead instead.
                ("$id" | "id", Value::String(_)) if depth > 0 => {
                    return Err(format!("`{keyword}` is only supported at the top"));
                }
                ("default" | "const" | "enum" | "examples", data) => self.data(data)?,
                ("pattern", _) => self.spend(PATTERN)?,
                ("patternProperties", Value::Object(patterns)) => {
                    self.spend(PATTERN * patterns.len())?;
                    self.all(patterns.values(), depth)?;
                }
                (
                    "properties" | "$defs" | "definitions" | "dependentSchemas",
                    Value::Object(named),
                ) => {
                    self.all(named.values(), depth)?;
                }
                (_, Value::Array(several)) => self.all(several, depth)?,
                (_, one) => self.schema(one, depth + 1)?,
            }
        }
        Ok(())
    }

    fn all(
        &mut self,
        schemas: impl IntoIterator<Item = &'a Value>,
        depth: usize,
    ) -> Result<(), String> {
        schemas.into_iter().try_for_each(|schema| self.schema(schema, depth + 1))
    }

    /// Settings are filled from it, or compared with it.
    fn data(&mut self, data: &Value) -> Result<(), String> {
        self.spend(1)?;
        match data {
            Value::Array(items) => items.iter().try_for_each(|item| self.data(item)),
            Value::Object(members) => members.values().try_for_each(|member| self.data(member)),
            _ => Ok(()),
        }
    }

    fn spend(&mut self, parts: usize) -> Result<(), String> {
        let parts = parts.saturating_mul(self.weight);
        self.left = self.left.checked_sub(parts).ok_or_else(|| {
            format!(
                "it refers to itself, or has more than {PARTS_MAX} parts (a pattern counts as {PATTERN}, \
                 and parts under `unevaluatedProperties` or `unevaluatedItems` count twice for each level)"
            )
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(schema: Value) -> String {
        compile(&schema).expect_err("a schema that is refused")
    }

    #[test]
    fn references_lead_to_definitions() {
        let schema = json!({
            "properties": { "a": { "$ref": "#/$defs/text" }, "b": { "$ref": "#/definitions/number" } },
            "$defs": { "text": { "type": "string" } },
            "definitions": { "number": { "type": "integer" } },
        });
        let Compiled { validator, .. } = compile(&schema).expect("a sound schema");
        assert!(validator.is_valid(&json!({ "a": "x", "b": 1 })));
        assert!(!validator.is_valid(&json!({ "a": 1 })));
        assert!(!validator.is_valid(&json!({ "b": "x" })));
    }

    #[test]
    fn a_reference_to_anything_else_is_refused() {
        for to in [
            "#",
            "#/properties/a",
            "#/$defs/none",
            "#/$defs/a%62",
            "#anchor",
            "http://example.com/schema",
            "file:///etc/passwd",
        ] {
            let schema = json!({ "properties": { "a": { "$ref": to } }, "$defs": { "ab": {} } });
            assert!(refusal(schema).starts_with(&format!("it refers to `{to}`")), "{to}");
        }
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            assert!(refusal(json!({ keyword: "#" })).contains(keyword));
        }
        let other_root = json!({ "items": { "$id": "http://example.com/", "type": "string" } });
        assert_eq!(refusal(other_root), "`$id` is only supported at the top");
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_refused() {
        let circle = json!({
            "$ref": "#/$defs/a",
            "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "$ref": "#/$defs/a" } },
        });
        assert!(refusal(circle).starts_with("it refers to itself"));
    }

    #[test]
    fn a_schema_that_unfolds_without_end_is_refused_before_it_does() {
        let mut definitions = Map::new();
        for level in 0..25 {
            let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
            definitions.insert(level.to_string(), json!({ "allOf": [next, next] }));
        }
        definitions.insert("25".into(), json!({}));
        let refusal = refusal(json!({ "$ref": "#/$defs/0", "$defs": definitions }));
        assert!(refusal.contains("more than 10000 parts"), "{refusal}");
    }

    #[test]
    fn patterns_never_go_back_and_have_a_size() {
        let schema = |pattern| json!({ "pattern": pattern });
        let Compiled { validator, .. } =
            compile(&schema("^(a|a)*(a+)+$")).expect("a plain pattern");
        assert!(!validator.is_valid(&json!("a".repeat(100_000) + "b")));
        for pattern in [r"(?=a)", r"(a)\1", r"((\w{100}){100}){100}"] {
            assert!(refusal(schema(pattern)).contains("regex"), "{pattern}");
        }
        let many: Map<_, _> =
            (0..200).map(|index| (format!("^{index}"), Value::Bool(true))).collect();
        assert!(refusal(json!({ "patternProperties": many })).contains("more than 10000 parts"));
    }

    /// The evaluation of each of these on `{}` did not end.
    #[test]
    fn nested_unevaluated_parts_are_refused() {
        for keyword in ["unevaluatedProperties", "unevaluatedItems"] {
            let mut schema = json!({ "required": ["a"] });
            for _ in 0..60 {
                schema = json!({ keyword: false, "anyOf": [schema, { "properties": {} }] });
            }
            assert!(refusal(schema).contains("more than 10000 parts"), "{keyword}");
        }
    }

    #[test]
    fn evaluation_budget_depends_on_schema_and_settings() {
        let required: Vec<_> = (0..3_000).map(|name| format!("k{name}")).collect();
        let schema = json!({ "additionalProperties": { "required": required } });
        let compiled = compile(&schema).expect("a sound schema");
        let settings = |members: usize| {
            let members = (0..members).map(|name| (format!("m{name}"), json!({})));
            Value::Object(members.collect())
        };
        assert_eq!(compiled.budget(&settings(10)), Budget::CollectErrors);
        assert_eq!(compiled.budget(&settings(1_000)), Budget::ValidityOnly);
        assert_eq!(compiled.budget(&settings(10_000)), Budget::Exceeded);
    }
}

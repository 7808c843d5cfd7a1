//! Limits of a plugin's settings schema, which is untrusted: supported keywords, size, depth and evaluation
//! cost.
//!
//! Validation of settings must not exhaust the host's stack, memory or CPU time. Before a schema is compiled, a
//! walk therefore follows all its references. Each reference must name a definition in the same schema, cycles
//! are rejected, and the expanded schema is limited in size and depth. Patterns use a regex engine without
//! backtracking. `format` is not validated: the plugin itself checks formats.

use crate::schema_annotations::definition;
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

/// Maximum number of schema nodes after expansion of references. Schemas of the bundled plugins have up to 100.
const MAX_SCHEMA_NODES: usize = 10_000;
/// Maximum nesting depth of subschemas, references included.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Cost of a pattern, in schema nodes. A pattern takes more memory and time than other keywords.
const NODES_PER_PATTERN: usize = 100;
/// Maximum memory of a compiled pattern, in bytes.
const MAX_COMPILED_PATTERN_BYTES: usize = 256 * 1024;

/// Maximum number of evaluation steps of a validation that collects all errors. Each step can cause one error, which
/// takes about 400 bytes.
const MAX_STEPS_COLLECTING_ERRORS: usize = 100_000;
/// Maximum number of evaluation steps of any validation. They take less than a second in total.
const MAX_EVALUATION_STEPS: usize = 20_000_000;

/// Number of bytes of a string that count as one value in the evaluation cost.
const STRING_BYTES_PER_VALUE: usize = 64;

/// Compiled schema, with the cost of its evaluation.
#[derive(Debug)]
pub(crate) struct CompiledSchema {
    pub(crate) validator: Validator,
    /// Maximum number of evaluation steps for each value of the settings.
    steps_per_value: usize,
}

/// Extent to which settings are validated, by the cost of the evaluation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    /// The settings are validated, and all errors are collected.
    CollectErrors,
    /// Validation returns only whether the settings are valid, without the errors.
    ValidityOnly,
    /// The settings are not validated, because validation would exceed the maximum number of steps.
    Exceeded,
}

impl CompiledSchema {
    /// Returns how extensively `settings` can be validated.
    pub(crate) fn budget(&self, settings: &Value) -> Budget {
        let steps = self.steps_per_value.saturating_mul(count_values(settings));
        if steps <= MAX_STEPS_COLLECTING_ERRORS {
            Budget::CollectErrors
        } else if steps <= MAX_EVALUATION_STEPS {
            Budget::ValidityOnly
        } else {
            Budget::Exceeded
        }
    }
}

/// Returns the number of values and keys. A long string counts as several values.
fn count_values(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len() / STRING_BYTES_PER_VALUE,
        Value::Array(items) => items.iter().map(count_values).sum(),
        Value::Object(members) => members.values().map(|member| 1 + count_values(member)).sum(),
        _ => 0,
    }
}

/// Checks the limits of a schema and compiles it.
///
/// # Errors
///
/// The reason why the schema is invalid, not supported or too large.
pub(crate) fn compile(schema: &Value) -> Result<CompiledSchema, String> {
    let mut walk = Walk { root: schema, remaining_nodes: MAX_SCHEMA_NODES, multiplier: 1 };
    walk.visit_schema(schema, 0)?;
    let patterns = PatternOptions::regex()
        .size_limit(MAX_COMPILED_PATTERN_BYTES)
        .dfa_size_limit(MAX_COMPILED_PATTERN_BYTES);
    jsonschema::options()
        .should_validate_formats(false)
        .with_pattern_options(patterns)
        .build(schema)
        .map(|validator| CompiledSchema {
            validator,
            steps_per_value: MAX_SCHEMA_NODES - walk.remaining_nodes,
        })
        .map_err(|error| error.to_string())
}

/// Walk through a schema that follows references and counts nodes.
struct Walk<'a> {
    /// Whole schema, in which references are resolved.
    root: &'a Value,
    /// Number of nodes that the walk may still count.
    remaining_nodes: usize,
    /// Factor with which each node of the current subschema counts. `unevaluatedProperties` and
    /// `unevaluatedItems` evaluate all keywords beside them again, so each of them doubles the factor.
    multiplier: usize,
}

impl<'a> Walk<'a> {
    fn visit_schema(&mut self, schema: &'a Value, depth: usize) -> Result<(), String> {
        self.count_nodes(1)?;
        if depth > MAX_SCHEMA_DEPTH {
            return Err(format!(
                "reference cycle, or more than {MAX_SCHEMA_DEPTH} levels of nesting"
            ));
        }
        let Value::Object(members) = schema else { return Ok(()) };
        let multiplier = self.multiplier;
        for keyword in ["unevaluatedProperties", "unevaluatedItems"] {
            if members.contains_key(keyword) {
                self.multiplier = self.multiplier.saturating_mul(2);
            }
        }
        self.visit_keywords(members, depth)?;
        self.multiplier = multiplier;
        Ok(())
    }

    fn visit_keywords(
        &mut self,
        keywords: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<(), String> {
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$ref", Value::String(to)) => {
                    let definition = definition(self.root, to).ok_or_else(|| {
                        format!(
                            "unresolved reference `{to}`; expected `#/$defs/NAME` of an existing \
                             definition"
                        )
                    })?;
                    self.visit_schema(definition, depth + 1)?;
                }
                ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                    return Err(format!("`{keyword}` is not supported; hint: use `$ref`"));
                }
                // A nested `$id` changes the base URI of references, which would then resolve to another schema.
                ("$id" | "id", Value::String(_)) if depth > 0 => {
                    return Err(format!("`{keyword}` is only supported at the top level"));
                }
                ("default" | "const" | "enum" | "examples", data) => self.visit_data(data)?,
                ("pattern", _) => self.count_nodes(NODES_PER_PATTERN)?,
                ("patternProperties", Value::Object(patterns)) => {
                    self.count_nodes(NODES_PER_PATTERN * patterns.len())?;
                    self.visit_all(patterns.values(), depth)?;
                }
                (
                    "properties" | "$defs" | "definitions" | "dependentSchemas" | "dependencies",
                    Value::Object(named),
                ) => {
                    self.visit_all(named.values(), depth)?;
                }
                (_, Value::Array(schemas)) => self.visit_all(schemas, depth)?,
                (_, schema) => self.visit_schema(schema, depth + 1)?,
            }
        }
        Ok(())
    }

    fn visit_all(
        &mut self,
        schemas: impl IntoIterator<Item = &'a Value>,
        depth: usize,
    ) -> Result<(), String> {
        schemas.into_iter().try_for_each(|schema| self.visit_schema(schema, depth + 1))
    }

    /// Counts the values of a keyword that contains data and no subschema: defaults, constants and examples.
    fn visit_data(&mut self, data: &Value) -> Result<(), String> {
        self.count_nodes(1)?;
        match data {
            Value::Array(items) => items.iter().try_for_each(|item| self.visit_data(item)),
            Value::Object(members) => {
                members.values().try_for_each(|member| self.visit_data(member))
            }
            _ => Ok(()),
        }
    }

    fn count_nodes(&mut self, nodes: usize) -> Result<(), String> {
        let nodes = nodes.saturating_mul(self.multiplier);
        self.remaining_nodes = self.remaining_nodes.checked_sub(nodes).ok_or_else(|| {
            format!(
                "reference cycle, or more than {MAX_SCHEMA_NODES} nodes (a pattern counts as \
                 {NODES_PER_PATTERN} nodes; each level of `unevaluatedProperties` or `unevaluatedItems` \
                 doubles the count)"
            )
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rejection(schema: Value) -> String {
        compile(&schema).expect_err("an invalid schema")
    }

    #[test]
    fn reference_to_definition_is_resolved() {
        let schema = json!({
            "properties": { "a": { "$ref": "#/$defs/text" }, "b": { "$ref": "#/definitions/number" } },
            "$defs": { "text": { "type": "string" } },
            "definitions": { "number": { "type": "integer" } },
        });
        let CompiledSchema { validator, .. } = compile(&schema).expect("a valid schema");
        assert!(validator.is_valid(&json!({ "a": "x", "b": 1 })));
        assert!(!validator.is_valid(&json!({ "a": 1 })));
        assert!(!validator.is_valid(&json!({ "b": "x" })));
    }

    #[test]
    fn reference_to_non_definition_is_rejected() {
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
            let expected = format!("unresolved reference `{to}`");
            assert!(rejection(schema).starts_with(&expected), "{to}");
        }
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            assert!(rejection(json!({ keyword: "#" })).contains(keyword));
        }
        let nested_id = json!({ "items": { "$id": "http://example.com/", "type": "string" } });
        assert_eq!(rejection(nested_id), "`$id` is only supported at the top level");
    }

    #[test]
    fn reference_cycle_is_rejected() {
        let cycle = json!({
            "$ref": "#/$defs/a",
            "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "$ref": "#/$defs/a" } },
        });
        assert!(rejection(cycle).starts_with("reference cycle"));
    }

    /// `dependencies` maps names to schemas. The walk visits a schema even if its name is also a keyword, such as
    /// `default`.
    #[test]
    fn reference_cycle_below_dependency_is_rejected() {
        let cycle = json!({
            "dependencies": { "default": { "$ref": "#/$defs/a" } },
            "$defs": { "a": { "dependencies": { "default": { "$ref": "#/$defs/a" } } } },
        });
        assert!(rejection(cycle).starts_with("reference cycle"));
    }

    /// The schema expands to 2^25 nodes; the walk stops at the limit.
    #[test]
    fn exponential_schema_is_rejected() {
        let mut definitions = Map::new();
        for level in 0..25 {
            let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
            definitions.insert(level.to_string(), json!({ "allOf": [next, next] }));
        }
        definitions.insert("25".into(), json!({}));
        let rejection = rejection(json!({ "$ref": "#/$defs/0", "$defs": definitions }));
        assert!(rejection.contains("more than 10000 nodes"), "{rejection}");
    }

    /// Patterns match in linear time. Backtracking constructs, large patterns and many patterns are rejected.
    #[test]
    fn pattern_time_and_size_are_limited() {
        let schema = |pattern| json!({ "pattern": pattern });
        let CompiledSchema { validator, .. } =
            compile(&schema("^(a|a)*(a+)+$")).expect("a valid pattern");
        assert!(!validator.is_valid(&json!("a".repeat(100_000) + "b")));
        for pattern in [r"(?=a)", r"(a)\1", r"((\w{100}){100}){100}"] {
            assert!(rejection(schema(pattern)).contains("regex"), "{pattern}");
        }
        let many: Map<_, _> =
            (0..200).map(|index| (format!("^{index}"), Value::Bool(true))).collect();
        assert!(rejection(json!({ "patternProperties": many })).contains("more than 10000 nodes"));
    }

    /// Regression test: the evaluation of each schema on `{}` took exponential time.
    #[test]
    fn nested_unevaluated_keywords_are_rejected() {
        for keyword in ["unevaluatedProperties", "unevaluatedItems"] {
            let mut schema = json!({ "required": ["a"] });
            for _ in 0..60 {
                schema = json!({ keyword: false, "anyOf": [schema, { "properties": {} }] });
            }
            assert!(rejection(schema).contains("more than 10000 nodes"), "{keyword}");
        }
    }

    #[test]
    fn evaluation_budget_depends_on_schema_and_settings() {
        let required: Vec<_> = (0..3_000).map(|name| format!("k{name}")).collect();
        let schema = json!({ "additionalProperties": { "required": required } });
        let compiled = compile(&schema).expect("a valid schema");
        let settings = |members: usize| {
            let members = (0..members).map(|name| (format!("m{name}"), json!({})));
            Value::Object(members.collect())
        };
        assert_eq!(compiled.budget(&settings(10)), Budget::CollectErrors);
        assert_eq!(compiled.budget(&settings(1_000)), Budget::ValidityOnly);
        assert_eq!(compiled.budget(&settings(10_000)), Budget::Exceeded);
    }
}

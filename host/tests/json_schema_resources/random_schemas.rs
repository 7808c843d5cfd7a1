//! Random JSON Schemas and values: nested combinators, references, patterns, large enumerations; deep, wide
//! and long values of up to 8 MiB.

use serde_json::{Map, Value, json};

/// Generator of pseudo-random schemas and values (xorshift64).
pub(crate) struct Random(u64);

/// Names of members and definitions. They are few, so that schemas often constrain members that a value contains.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const PATTERNS: [&str; 4] = ["^(a|a)*$", "(x+x+)+y", "^\\w{1,500}$", "[a-z]{3}.*[0-9]"];
const MAX_VALUE_BYTES: usize = 8 << 20;

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Returns a schema with definitions that refer to each other.
    pub(crate) fn schema(&mut self) -> Value {
        let mut definitions = Map::new();
        for name in NAMES {
            definitions.insert(name.into(), self.part(3));
        }
        let mut schema = self.part(4);
        if let Value::Object(members) = &mut schema {
            members.insert("$defs".into(), definitions.into());
        }
        schema
    }

    /// Returns a subschema with this many nested levels.
    fn part(&mut self, levels: u32) -> Value {
        if levels == 0 {
            let reference = format!("#/$defs/{}", self.one_of(&NAMES));
            let (number, pattern) = (self.below(50), self.one_of(&PATTERNS));
            return match self.below(6) {
                0..=2 => json!({ "$ref": reference }),
                3 => json!({ "pattern": pattern }),
                4 => json!({ "type": ["object", "array", "string", "number"] }),
                _ => json!({ "maxLength": number * 100, "maxItems": number }),
            };
        }
        let mut part = Map::new();
        for _ in 0..=self.below(2) {
            let (keyword, value) = self.keyword(levels - 1);
            part.insert(keyword.into(), value);
        }
        part.into()
    }

    fn keyword(&mut self, levels: u32) -> (&'static str, Value) {
        let keyword = self.one_of(&[
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "if",
            "items",
            "contains",
            "properties",
            "patternProperties",
            "additionalProperties",
            "propertyNames",
            "dependentSchemas",
            "unevaluatedProperties",
            "unevaluatedItems",
            "uniqueItems",
            "enum",
            "required",
            "prefixItems",
        ]);
        let value = match keyword {
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                (0..2 + self.below(2)).map(|_| self.part(levels)).collect()
            }
            "properties" | "dependentSchemas" => {
                let named = NAMES.iter().map(|name| ((*name).to_owned(), self.part(levels)));
                Value::Object(named.collect())
            }
            "patternProperties" => json!({ self.one_of(&PATTERNS): self.part(levels) }),
            "uniqueItems" => true.into(),
            "required" => NAMES.as_slice().into(),
            "enum" => (0..self.below(3_000)).map(|number| json!({ "a": number })).collect(),
            _ => self.part(levels),
        };
        (keyword, value)
    }

    /// Returns a value in JSON: a random tree, a deeply nested value, a long array, a large object, or a long string.
    pub(crate) fn value(&mut self) -> String {
        let bytes = self.one_of(&[1_000, 50_000, 500_000, MAX_VALUE_BYTES]);
        match self.below(6) {
            0 => {
                let level = self.one_of(&["{\"a\":", "[", "{\"b\":"]);
                let depth = self.below(120) as usize;
                let end = if level == "[" { "]" } else { "}" };
                format!("{}1{}", level.repeat(depth), end.repeat(depth))
            }
            1 => format!("\"{}\"", self.one_of(&["a", "x", "ab1"]).repeat(bytes / 3)),
            2 => {
                let item = self.one_of(&["{}", "[]", "1", "{\"a\":{}}", "\"x\"", "{\"a\":[1,{}]}"]);
                format!("[{}{item}]", format!("{item},").repeat(bytes / (item.len() + 1) - 1))
            }
            3 => {
                let members = (0..bytes / 14).map(|key| format!("\"k{key}\":{{}}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
            _ => self.tree(5).to_string(),
        }
    }

    fn tree(&mut self, levels: u32) -> Value {
        if levels == 0 {
            return self.one_of(&[1, 2, 50]).into();
        }
        match self.below(3) {
            0 => (0..self.below(6)).map(|_| self.tree(levels - 1)).collect(),
            1 => "xa".repeat(self.below(50) as usize).into(),
            _ => {
                let named = NAMES.iter().map(|name| ((*name).to_owned(), self.tree(levels - 1)));
                Value::Object(named.collect())
            }
        }
    }
}

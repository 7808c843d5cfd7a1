//! Structure-aware mutation of JSON. Mutations of single bytes rarely result in valid JSON.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Value, json};

/// Keywords of JSON Schema and members of a plugin description.
const NAMES: [&str; 40] = [
    "$defs",
    "$dynamicRef",
    "$id",
    "$ref",
    "$schema",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "default",
    "dependentRequired",
    "description",
    "enum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "name",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "then",
    "type",
    "unevaluatedProperties",
    "uniqueItems",
    "x-connect",
];

/// Mutates the JSON in `data[..size]`, or its bytes if it is not JSON. Returns the new size, as
/// [`libfuzzer_sys::fuzz_mutator`] requires.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let Ok(mut whole) = serde_json::from_slice::<Value>(&data[..size]) else {
        return fuzzer_mutate(data, size, max);
    };
    let mut rng = Rng(u64::from(seed) | 1 << 40);
    for _ in 0..=rng.below(3) {
        mutate_once(&mut whole, &mut rng);
    }
    let text = whole.to_string();
    if text.len() > max {
        return fuzzer_mutate(data, size, max);
    }
    data[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
}

fn mutate_once(whole: &mut Value, rng: &mut Rng) {
    let count = count_values(whole);
    let other = nth_value(whole, &mut rng.below(count)).map_or(Value::Null, |value| value.clone());
    let Some(place) = nth_value(whole, &mut rng.below(count)) else { return };
    match (rng.below(6), place) {
        (0, place) => *place = other,
        (1, place) => *place = edge_case(rng),
        (2, Value::Object(members)) => {
            let names: Vec<_> = members.keys().cloned().collect();
            if let Some(name) = names.get(rng.below(names.len().max(1))) {
                members.remove(name);
            }
        }
        (2, Value::Array(items)) if !items.is_empty() => drop(items.remove(rng.below(items.len()))),
        (3, Value::String(text)) => {
            let mut bytes = text.clone().into_bytes();
            let size = bytes.len();
            bytes.resize(size + 16, 0);
            let size = fuzzer_mutate(&mut bytes, size, size + 16);
            *text = String::from_utf8_lossy(&bytes[..size]).into_owned();
        }
        (4, place) => *place = json!({ NAMES[rng.below(NAMES.len())]: place.take() }),
        (_, Value::Object(members)) => {
            let value = if rng.below(2) == 0 { other } else { edge_case(rng) };
            members.insert(NAMES[rng.below(NAMES.len())].into(), value);
        }
        (_, Value::Array(items)) => items.push(other),
        (_, place) => *place = json!([place.take()]),
    }
}

fn edge_case(rng: &mut Rng) -> Value {
    match rng.below(14) {
        0 => Value::Null,
        1 => true.into(),
        2 => false.into(),
        3 => 0.into(),
        4 => (-1).into(),
        5 => u64::MAX.into(),
        6 => json!(1e300),
        7 => json!(5e-324),
        8 => "".into(),
        9 => ["string", "integer", "array", "object", "boolean", "number"][rng.below(6)].into(),
        10 => NAMES[rng.below(NAMES.len())].into(),
        11 => ["#", "#/properties/a", "#/$defs/a", "#/$defs/b", "#a"][rng.below(5)].into(),
        12 => json!({}),
        _ => json!([]),
    }
}

fn count_values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count_values).sum(),
        Value::Object(members) => members.values().map(count_values).sum::<usize>(),
        _ => 0,
    }
}

/// Returns the value with this index in depth-first order.
fn nth_value<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth_value(item, number)),
        Value::Object(members) => members.values_mut().find_map(|member| nth_value(member, number)),
        _ => None,
    }
}

/// Random number generator (xorshift) with a seed.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}

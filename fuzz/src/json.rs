//! Changes JSON as JSON: bytes that are changed blindly are rarely JSON any more.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Value, json};

/// Names that mean something to who reads a schema or a description.
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

/// Changes one place of the JSON in `data[..size]`, or the bytes where that is no JSON. As
/// [`libfuzzer_sys::fuzz_mutator`] wants it: gives the new size.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let Ok(mut whole) = serde_json::from_slice::<Value>(&data[..size]) else {
        return fuzzer_mutate(data, size, max);
    };
    let mut dice = Dice(u64::from(seed) | 1 << 40);
    for _ in 0..=dice.below(3) {
        change(&mut whole, &mut dice);
    }
    let text = whole.to_string();
    if text.len() > max {
        return fuzzer_mutate(data, size, max);
    }
    data[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
}

fn change(whole: &mut Value, dice: &mut Dice) {
    let count = count(whole);
    let other = at(whole, &mut dice.below(count)).map_or(Value::Null, |value| value.clone());
    let Some(place) = at(whole, &mut dice.below(count)) else { return };
    match (dice.below(6), place) {
        (0, place) => *place = other,
        (1, place) => *place = interesting(dice),
        (2, Value::Object(members)) => {
            let names: Vec<_> = members.keys().cloned().collect();
            if let Some(name) = names.get(dice.below(names.len().max(1))) {
                members.remove(name);
            }
        }
        (2, Value::Array(items)) if !items.is_empty() => {
            drop(items.remove(dice.below(items.len())))
        }
        (3, Value::String(text)) => {
            let mut bytes = text.clone().into_bytes();
            let size = bytes.len();
            bytes.resize(size + 16, 0);
            let size = fuzzer_mutate(&mut bytes, size, size + 16);
            *text = String::from_utf8_lossy(&bytes[..size]).into_owned();
        }
        (4, place) => *place = json!({ NAMES[dice.below(NAMES.len())]: place.take() }),
        (_, Value::Object(members)) => {
            let value = if dice.below(2) == 0 { other } else { interesting(dice) };
            members.insert(NAMES[dice.below(NAMES.len())].into(), value);
        }
        (_, Value::Array(items)) => items.push(other),
        (_, place) => *place = json!([place.take()]),
    }
}

fn interesting(dice: &mut Dice) -> Value {
    match dice.below(14) {
        0 => Value::Null,
        1 => true.into(),
        2 => false.into(),
        3 => 0.into(),
        4 => (-1).into(),
        5 => u64::MAX.into(),
        6 => json!(1e300),
        7 => json!(5e-324),
        8 => "".into(),
        9 => ["string", "integer", "array", "object", "boolean", "number"][dice.below(6)].into(),
        10 => NAMES[dice.below(NAMES.len())].into(),
        11 => ["#", "#/properties/a", "#/$defs/a", "#/$defs/b", "#a"][dice.below(5)].into(),
        12 => json!({}),
        _ => json!([]),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The value with this number, counted from the outermost one.
fn at<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| at(item, number)),
        Value::Object(members) => members.values_mut().find_map(|member| at(member, number)),
        _ => None,
    }
}

/// Numbers that follow from the seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}

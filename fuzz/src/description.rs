//! Fuzz target: the description of an untrusted component. The host reads it before it loads the component.
//!
//! An input with a WebAssembly header is read as a component. Any other input is the JSON of a description, which the
//! target puts into a custom section of a valid component.

use crate::{json_mutator, memory_limit::with_memory_limit};
use libfuzzer_sys::fuzzer_mutate;
use reloader_component_metadata::Description;
use serde_json::Value;

/// Headers of a component and of a core module.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Fuzz target: reads the plugin description from a component that contains the input, and checks the result.
pub fn run(input: &[u8]) {
    if input.starts_with(b"\0asm") {
        check(input);
        return;
    }
    let outside = check(&[COMPONENT, &description(input)].concat());
    // Compilers place the section in the nested core module.
    let module = [MODULE, &description(input)].concat();
    let inside = check(&[COMPONENT, &section(1, &module)].concat());
    let fields = |description: Option<Description>| {
        description.map(|found| (found.name, found.version, found.about, found.settings))
    };
    assert_eq!(fields(outside), fields(inside), "the result depends on the place of the section");
}

/// Mutates an input; three of four mutations of a description change its JSON structure.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    if seed.is_multiple_of(4) || data[..size].starts_with(b"\0asm") {
        return fuzzer_mutate(data, size, max);
    }
    json_mutator::mutate(data, size, max, seed)
}

fn check(component: &[u8]) -> Option<Description> {
    let memory_limit = (1 << 20) + 400 * component.len();
    let description = with_memory_limit(memory_limit, || Description::read(component, "called"));
    let description = match description {
        Ok(description) => description,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    assert_eq!(description.size, component.len());
    assert_eq!(description.digest.len(), 64);
    let texts = [&description.version, &description.about, &description.sdk];
    for text in texts.into_iter().flatten().chain([&description.name]) {
        assert!(!text.chars().any(char::is_control), "control character: {text:?}");
    }
    check_texts(&description.settings);
    Some(description)
}

/// Checks that no text contains control characters, because the host may write any text to a
/// terminal.
fn check_texts(value: &Value) {
    match value {
        Value::String(text) => assert!(!text.chars().any(char::is_control), "{text:?}"),
        Value::Array(items) => items.iter().for_each(check_texts),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            assert!(!name.chars().any(char::is_control), "{name:?}");
            check_texts(member);
        }),
        _ => {}
    }
}

fn description(json: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"reloader:plugin";
    section(0, &[&[NAME.len() as u8], NAME, json].concat())
}

fn section(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![kind];
    // Length of the section's content, encoded in LEB128.
    let mut length = content.len();
    while length >= 0x80 {
        section.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    section.push(length as u8);
    section.extend_from_slice(content);
    section
}

//! Components that are written as text: what no compiler would make.

use std::{
    fs,
    path::{Path, PathBuf},
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What only a plugin that can watch exports.
const WATCHES: &str = "reloader:plugin/watch@0.1.0#arm";
/// What only a validator exports.
const VALIDATES: &str = "reloader:plugin/validate@0.1.0#validate";

/// How a core module begins; a component has another version there.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A component of `tests/guests` that is written as text.
///
/// # Panics
///
/// When it is not there, or makes no component.
#[must_use]
pub fn text_guest(name: &str) -> PathBuf {
    let path = crate::package().join("guests").join(format!("{name}.wat"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}.wat: {error}"));
    let folder = crate::program().ancestors().nth(2).unwrap().join("guests").join("text");
    fs::create_dir_all(&folder).unwrap();
    // Tests that want the same one at the same time must not see a half of it.
    let new = tempfile::NamedTempFile::new_in(&folder).unwrap();
    fs::write(&new, component(&text)).unwrap();
    let component = folder.join(format!("{name}.wasm"));
    new.persist(&component).unwrap();
    component
}

/// A component from its text: as it stands, or, if that is of a core module, with the world that it
/// exports around it.
///
/// # Panics
///
/// When it makes no component.
#[must_use]
pub fn component(text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    if !module.starts_with(MODULE) {
        return module;
    }
    let mut resolve = Resolve::default();
    let wit = crate::package().join("../wit");
    let (package, _) = resolve.push_dir(Path::new(&wit)).unwrap();
    let name = match text {
        _ if text.contains(VALIDATES) => "validator",
        _ if text.contains(WATCHES) => "realtime-source",
        _ => "source",
    };
    let world = resolve.select_world(&[package], Some(name)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().module(&module).unwrap();
    encoder.validate(true).encode().unwrap()
}

/// The component with one more custom section.
#[must_use]
pub fn with_section(mut component: Vec<u8>, name: &str, content: &[u8]) -> Vec<u8> {
    let mut section = Vec::new();
    number(&mut section, name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    component.push(0);
    number(&mut component, section.len());
    component.extend(section);
    component
}

/// The component with another one in it, which is instantiated with it.
///
/// # Panics
///
/// When the first one is none.
#[must_use]
pub fn with_component(component: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut depth = 0;
    let mut before = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ComponentSection { .. } => {
                before += usize::from(depth == 0);
                depth += 1;
            }
            Payload::ModuleSection { .. } => depth += 1,
            Payload::End(_) if depth > 0 => depth -= 1,
            _ => {}
        }
    }
    let mut all = component.to_vec();
    all.push(4);
    number(&mut all, inner.len());
    all.extend_from_slice(inner);
    // One instance, of that component, with no arguments.
    let mut instance = vec![1, 0];
    number(&mut instance, before);
    instance.push(0);
    all.push(5);
    number(&mut all, instance.len());
    all.extend(instance);
    all
}

/// LEB128, as all numbers in a component are written.
fn number(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

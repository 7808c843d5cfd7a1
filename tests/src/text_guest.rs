//! Test components written as WebAssembly text, for code that no compiler would produce.

use crate::paths::{guest_target, package};
use std::{
    fs,
    path::{Path, PathBuf},
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Name of the export by which a plugin that can watch is recognised.
const WATCHES: &str = "reloader:plugin/watch@0.1.0#arm";
/// Name of the export by which a validator is recognised.
const VALIDATES: &str = "reloader:plugin/validate@0.1.0#validate";

/// Header of a core module. A component has another version number in its header.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Assembles `tests/guests/NAME.wat` and returns the path of the component.
///
/// # Panics
///
/// If the file is missing or is not a valid component.
#[must_use]
pub fn text_guest(name: &str) -> PathBuf {
    let path = package().join("guests").join(format!("{name}.wat"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}.wat: {error}"));
    let folder = guest_target().join("text");
    fs::create_dir_all(&folder).unwrap();
    // Concurrent tests write and read the same file, so each write is an atomic rename.
    let new = tempfile::NamedTempFile::new_in(&folder).unwrap();
    fs::write(&new, component(&text)).unwrap();
    let component = folder.join(format!("{name}.wasm"));
    new.persist(&component).unwrap();
    component
}

/// Assembles a component from text. A core module is wrapped as a component of the world that its
/// exports imply.
///
/// # Panics
///
/// If the text is not a valid component or core module.
#[must_use]
pub fn component(text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    if !module.starts_with(MODULE) {
        return module;
    }
    let mut resolve = Resolve::default();
    let wit = package().join("../wit");
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

/// Appends a custom section to a component.
#[must_use]
pub fn with_section(mut component: Vec<u8>, name: &str, content: &[u8]) -> Vec<u8> {
    let mut section = Vec::new();
    write_leb128(&mut section, name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    component.push(0);
    write_leb128(&mut component, section.len());
    component.extend(section);
    component
}

/// Nests the component `inner` in `component` and instantiates it there.
///
/// # Panics
///
/// If `component` is not a valid component.
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
    write_leb128(&mut all, inner.len());
    all.extend_from_slice(inner);
    // One instance of the nested component, without arguments.
    let mut instance = vec![1, 0];
    write_leb128(&mut instance, before);
    instance.push(0);
    all.push(5);
    write_leb128(&mut all, instance.len());
    all.extend(instance);
    all
}

/// Appends a number in LEB128, the encoding of numbers in a component.
fn write_leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

//! Description of a plugin, read from the bytes of its component without compilation or execution.

use crate::static_instantiation_cost::{CostCounter, StaticCost};
use reloader_util::sanitize::sanitize;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, Parser, Payload};

/// Name of the custom section into which the SDK writes the description of a plugin.
const SECTION_NAME: &str = "reloader:plugin";
/// Maximum size of the custom section, in bytes. A component with a larger section is rejected.
const MAX_SECTION_BYTES: usize = 256 * 1024;

/// Description of a plugin: the name, version and settings that the SDK embeds, and the size, digest and static cost of
/// its component.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Name of the plugin; if the component states none, the name under which it was loaded.
    pub name: String,
    /// Version of the plugin.
    pub version: Option<String>,
    /// Short description of the plugin.
    pub about: Option<String>,
    /// Version of the SDK; `None` if the plugin does not use the SDK.
    pub sdk: Option<String>,
    /// JSON Schema of the settings. A plugin without a schema accepts any settings, and its settings imply no
    /// grants.
    pub settings: Value,
    /// SHA-256 digest of the component, in lower-case hexadecimal.
    pub digest: String,
    /// Size of the component, in bytes.
    pub size: usize,
    /// Host memory and number of nested instances that each instance of the component takes.
    pub static_cost: StaticCost,
}

/// Reason why bytes are not a valid plugin component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// Bytes without the WebAssembly magic number, with the reason.
    #[error("not a WebAssembly component: {0}")]
    NotWasm(&'static str),
    /// Core module instead of a component.
    #[error(
        "core module instead of a component; build it with `cargo build --target wasm32-wasip2`"
    )]
    CoreModule,
    /// Corrupt or truncated component, with the error of the parser.
    #[error("corrupt or truncated component: {0}")]
    Damaged(String),
    /// Invalid or too large description, with the reason.
    #[error("invalid description in custom section `{SECTION_NAME}`: {0}")]
    Description(String),
}

/// JSON content of the custom section, as the SDK writes it.
#[derive(Default, Deserialize)]
struct Section {
    sdk: Option<String>,
    name: String,
    version: Option<String>,
    description: Option<String>,
    settings: Option<Value>,
}

impl Description {
    /// Reads the description of a component. `fallback_name` is the name of a plugin that states none.
    ///
    /// # Errors
    ///
    /// [`ComponentError`] if `bytes` is not a complete component, or its description is invalid.
    pub fn read(bytes: &[u8], fallback_name: &str) -> Result<Self, ComponentError> {
        if !bytes.starts_with(b"\0asm") {
            return Err(ComponentError::NotWasm(match bytes {
                [] => "empty file",
                _ if std::str::from_utf8(bytes).is_ok() => "text file",
                _ => "missing magic number",
            }));
        }
        let (mut section, mut counter) = (None, CostCounter::default());
        let mut is_outermost = true;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(corrupt)?;
            counter.add_payload(&payload).map_err(corrupt)?;
            match payload {
                Payload::Version { encoding: Encoding::Module, .. } if is_outermost => {
                    return Err(ComponentError::CoreModule);
                }
                Payload::Version { .. } => is_outermost = false,
                Payload::CustomSection(custom) if custom.name() == SECTION_NAME => {
                    section.get_or_insert(custom.data());
                }
                _ => {}
            }
        }
        let section = section.map(parse_section).transpose()?;
        let digest = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let sanitized =
            |text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| sanitize(&text));
        let Section { sdk, name, version, description, settings } = section.unwrap_or_default();
        Ok(Self {
            name: sanitize(if name.is_empty() { fallback_name } else { &name }),
            version: sanitized(version),
            about: sanitized(description),
            sdk: sanitized(sdk),
            settings: settings.map_or_else(|| json!({ "type": "object" }), sanitize_all),
            digest,
            size: bytes.len(),
            static_cost: counter.cost(),
        })
    }
}

/// Parses the JSON description in the custom section that the SDK embeds in a component.
fn parse_section(data: &[u8]) -> Result<Section, ComponentError> {
    if data.len() > MAX_SECTION_BYTES {
        return Err(ComponentError::Description(format!(
            "size of {} bytes exceeds the limit of {MAX_SECTION_BYTES} bytes",
            data.len()
        )));
    }
    serde_json::from_slice(data).map_err(|error| ComponentError::Description(error.to_string()))
}

fn corrupt(error: wasmparser::BinaryReaderError) -> ComponentError {
    ComponentError::Damaged(error.to_string())
}

/// Sanitises all strings and keys of a schema, which is untrusted and shown on terminals.
fn sanitize_all(value: Value) -> Value {
    match value {
        Value::String(text) => sanitize(&text).into(),
        Value::Array(items) => items.into_iter().map(sanitize_all).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (sanitize(&name), sanitize_all(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(bytes: &[u8]) -> String {
        Description::read(bytes, "x").expect_err("not a component").to_string()
    }

    #[test]
    fn non_component_is_rejected_with_its_kind() {
        assert_eq!(rejection(b""), "not a WebAssembly component: empty file");
        assert_eq!(rejection(b"hello"), "not a WebAssembly component: text file");
        assert!(rejection(b"\x7fELF\xff").ends_with("missing magic number"));
        assert!(rejection(b"\0asm\x01\0\0\0").starts_with("core module"));
        assert!(rejection(b"\0asm\x0d\0\x01\0\x01\xff").starts_with("corrupt or truncated"));
    }

    #[test]
    fn component_without_description_accepts_any_settings() {
        let description = Description::read(b"\0asm\x0d\0\x01\0", "mine").expect("a component");
        assert_eq!(description.name, "mine");
        assert_eq!(description.settings, json!({ "type": "object" }));
    }

    #[test]
    fn invalid_json_description_is_rejected() {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        let mut section = vec![SECTION_NAME.len() as u8];
        section.extend_from_slice(SECTION_NAME.as_bytes());
        section.extend_from_slice(b"{");
        bytes.extend([0, section.len() as u8]);
        bytes.extend(section);
        assert!(rejection(&bytes).starts_with("invalid description in custom section"));
    }
}

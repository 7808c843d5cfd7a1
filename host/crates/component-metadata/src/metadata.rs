//! What can be known of a plugin from its bytes, without compiling or running it.

use crate::static_cost::{Cost, Weight};
use reloader_util::sanitize::sanitize;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, Parser, Payload};

/// The custom section in which the SDK describes a plugin.
const SECTION: &str = "reloader:plugin";
/// A description longer than this is refused.
const SECTION_MAX: usize = 256 * 1024;

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Its name; where it does not say, the name it was loaded by.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// What it is, in a few words.
    pub about: Option<String>,
    /// The version of the SDK that it was written with, if it was.
    pub sdk: Option<String>,
    /// The JSON Schema of its settings. A plugin that has none takes any settings, and is granted
    /// nothing by them.
    pub settings: Value,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Size of the component, in bytes.
    pub size: usize,
    /// What its parts take at most each time that it is opened, beside its linear memory, in bytes.
    pub weight: u64,
    /// Instances of modules and components that it is made of.
    pub instances: u64,
}

/// These bytes are not a plugin.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Nothing of WebAssembly at all.
    #[error("it is not a WebAssembly component: it {0}")]
    NotWasm(&'static str),
    /// WebAssembly, but a module.
    #[error(
        "it is a core module, not a component; build it with `cargo build --target wasm32-wasip2`"
    )]
    CoreModule,
    /// Cut off or damaged.
    #[error("the component is damaged or cut off: {0}")]
    Damaged(String),
    /// The description is there, but cannot be read.
    #[error("its description (custom section `{SECTION}`) cannot be read: {0}")]
    Description(String),
}

/// The section as the SDK writes it.
#[derive(Deserialize)]
struct Section {
    sdk: Option<String>,
    name: String,
    version: Option<String>,
    description: Option<String>,
    settings: Option<Value>,
}

impl Description {
    /// Looks at the bytes; `called` is the name for a plugin that does not say its own.
    ///
    /// # Errors
    ///
    /// [`ArtifactError`] when they are not a whole component.
    pub fn read(bytes: &[u8], called: &str) -> Result<Self, ArtifactError> {
        if !bytes.starts_with(b"\0asm") {
            return Err(ArtifactError::NotWasm(match bytes {
                [] => "is empty",
                _ if std::str::from_utf8(bytes).is_ok() => "is a text file",
                _ => "does not begin like one",
            }));
        }
        let (mut section, mut weight) = (None, Weight::default());
        let mut outermost = true;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(damaged)?;
            weight.add(&payload).map_err(damaged)?;
            match payload {
                Payload::Version { encoding: Encoding::Module, .. } if outermost => {
                    return Err(ArtifactError::CoreModule);
                }
                Payload::Version { .. } => outermost = false,
                Payload::CustomSection(custom) if custom.name() == SECTION => {
                    section.get_or_insert(custom.data());
                }
                _ => {}
            }
        }
        let section = match section {
            None => None,
            Some(data) if data.len() > SECTION_MAX => {
                let length = data.len();
                return Err(ArtifactError::Description(format!(
                    "it is {length} bytes long; the limit is {SECTION_MAX}"
                )));
            }
            Some(data) => {
                let section: Section = serde_json::from_slice(data)
                    .map_err(|error| ArtifactError::Description(error.to_string()))?;
                Some(section)
            }
        };
        let Cost { bytes: weight, instances } = weight.cost();
        let digest = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let tidied = |text: Option<String>| text.filter(|t| !t.is_empty()).map(|t| sanitize(&t));
        Ok(match section {
            Some(section) => Self {
                name: sanitize(if section.name.is_empty() { called } else { &section.name }),
                version: tidied(section.version),
                about: tidied(section.description),
                sdk: tidied(section.sdk),
                settings: section
                    .settings
                    .map_or_else(|| json!({ "type": "object" }), sanitize_all),
                digest,
                size: bytes.len(),
                weight,
                instances,
            },
            None => Self {
                name: sanitize(called),
                version: None,
                about: None,
                sdk: None,
                settings: json!({ "type": "object" }),
                digest,
                size: bytes.len(),
                weight,
                instances,
            },
        })
    }
}

fn damaged(error: wasmparser::BinaryReaderError) -> ArtifactError {
    ArtifactError::Damaged(error.to_string())
}

/// A schema is shown, so what is in it must not speak to the terminal.
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

    fn refusal(bytes: &[u8]) -> String {
        Description::read(bytes, "x").expect_err("not a plugin").to_string()
    }

    #[test]
    fn what_is_not_a_component_is_named_for_what_it_is() {
        assert_eq!(refusal(b""), "it is not a WebAssembly component: it is empty");
        assert_eq!(refusal(b"hello"), "it is not a WebAssembly component: it is a text file");
        assert!(refusal(b"\x7fELF\xff").ends_with("does not begin like one"));
        assert!(refusal(b"\0asm\x01\0\0\0").starts_with("it is a core module"));
        assert!(refusal(b"\0asm\x0d\0\x01\0\x01\xff").starts_with("the component is damaged"));
    }

    #[test]
    fn a_component_without_a_description_takes_any_settings() {
        let description = Description::read(b"\0asm\x0d\0\x01\0", "mine").expect("a component");
        assert_eq!(description.name, "mine");
        assert_eq!(description.settings, json!({ "type": "object" }));
    }

    #[test]
    fn a_description_that_is_no_json_is_an_error() {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        let mut section = vec![SECTION.len() as u8];
        section.extend_from_slice(SECTION.as_bytes());
        section.extend_from_slice(b"{");
        bytes.extend([0, section.len() as u8]);
        bytes.extend(section);
        assert!(refusal(&bytes).starts_with("its description (custom section"));
    }
}

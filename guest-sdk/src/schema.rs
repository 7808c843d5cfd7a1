//! Compile-time JSON Schema of plugin settings.
//!
//! A schema is a tree of constants. [`export!`](crate::export) combines it with the plugin's name and
//! version in the custom section `reloader:plugin`. A host reads this section without executing the
//! component.

use reloader_guest_sdk_macros::standard_schemas;
use std::collections::{BTreeMap, HashMap};

/// A type of a plugin setting. Implemented by [`settings`](crate::settings).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a supported type of a plugin setting",
    note = "supported types: strings, numbers, booleans, paths, `Option`, `Vec`, maps with string keys, \
            and types with `#[guest_sdk::settings]`"
)]
pub trait Schema {
    /// JSON Schema of the type: an object *without its closing brace*, so that a field can append its
    /// description and its annotations.
    const SCHEMA: Fragment;
}

/// Part of a JSON text that is assembled at compile time.
#[derive(Debug, Clone, Copy)]
pub enum Fragment {
    /// Verbatim text.
    Text(&'static str),
    /// JSON string: quoted and escaped.
    Quoted(&'static str),
    /// Concatenation of these fragments.
    Join(&'static [Fragment]),
}

standard_schemas!();

impl<T: Schema> Schema for Option<T> {
    const SCHEMA: Fragment = T::SCHEMA;
}

impl<T: Schema> Schema for Vec<T> {
    const SCHEMA: Fragment = Fragment::Join(&[
        Fragment::Text(r#"{"type":"array","items":"#),
        T::SCHEMA,
        Fragment::Text("}"),
    ]);
}

impl<T: Schema> Schema for BTreeMap<String, T> {
    const SCHEMA: Fragment = Fragment::Join(&[
        Fragment::Text(r#"{"type":"object","additionalProperties":"#),
        T::SCHEMA,
        Fragment::Text("}"),
    ]);
}

impl<T: Schema> Schema for HashMap<String, T> {
    const SCHEMA: Fragment = <BTreeMap<String, T> as Schema>::SCHEMA;
}

impl Fragment {
    /// Returns the length of the assembled JSON text, in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Fragment::Text(text) => text.len(),
            Fragment::Quoted(text) => {
                let bytes = text.as_bytes();
                let (mut length, mut index) = (2, 0);
                while index < bytes.len() {
                    length += if must_escape(bytes[index]) { 2 } else { 1 };
                    index += 1;
                }
                length
            }
            Fragment::Join(parts) => {
                let (mut length, mut index) = (0, 0);
                while index < parts.len() {
                    length += parts[index].len();
                    index += 1;
                }
                length
            }
        }
    }

    /// Returns whether the assembled JSON text is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the assembled JSON text as bytes. `N` must equal [`len`](Self::len).
    #[must_use]
    pub const fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        let end = self.write(&mut out, 0);
        assert!(end == N, "N is the fragment's length");
        out
    }

    const fn write(&self, out: &mut [u8], mut at: usize) -> usize {
        match self {
            Fragment::Text(text) => {
                let bytes = text.as_bytes();
                let mut index = 0;
                while index < bytes.len() {
                    out[at] = bytes[index];
                    at += 1;
                    index += 1;
                }
            }
            Fragment::Quoted(text) => {
                out[at] = b'"';
                at += 1;
                let bytes = text.as_bytes();
                let mut index = 0;
                while index < bytes.len() {
                    if must_escape(bytes[index]) {
                        out[at] = b'\\';
                        at += 1;
                    }
                    out[at] = if bytes[index] == b'\n' { b'n' } else { bytes[index] };
                    at += 1;
                    index += 1;
                }
                out[at] = b'"';
                at += 1;
            }
            Fragment::Join(parts) => {
                let mut index = 0;
                while index < parts.len() {
                    at = parts[index].write(out, at);
                    index += 1;
                }
            }
        }
        at
    }
}

const fn must_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'\n')
}

/// Deserializes the default of `#[setting(default = …)]`.
///
/// # Panics
///
/// Panics if the default does not match the type of the field. This is a bug in the plugin; each test
/// that parses the settings without this field detects it.
#[doc(hidden)]
#[must_use]
pub fn default_from<T: serde::de::DeserializeOwned>(json: &str) -> T {
    match serde_json::from_str(json) {
        Ok(value) => value,
        Err(error) => panic!("default {json} does not match the type of its setting: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Description of the settings.
    #[guest_sdk::settings]
    #[allow(dead_code, reason = "only the schema is used")]
    struct AllTypes {
        /// Description of the URL
        /// on "two" lines.
        #[setting(connect(redis = 6379, rediss = 6380))]
        url: String,
        #[setting(default = 10)]
        count: u8,
        secret: Option<Inner>,
        names: Vec<String>,
        headers: BTreeMap<String, String>,
        #[setting(default = "long-poll")]
        kind: Kind,
    }

    #[guest_sdk::settings]
    #[allow(dead_code, reason = "only the schema is used")]
    struct Inner {
        #[setting(secret)]
        password: String,
    }

    #[guest_sdk::settings]
    #[derive(Debug, PartialEq)]
    enum Kind {
        LongPoll,
        None,
    }

    fn schema<T: Schema>() -> serde_json::Value {
        let mut bytes = vec![0; T::SCHEMA.len()];
        T::SCHEMA.write(&mut bytes, 0);
        bytes.push(b'}');
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn schema_reflects_types_docs_and_annotations() {
        let schema = schema::<AllTypes>();
        assert_eq!(schema["description"], "Description of the settings.");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["url", "names", "headers"]));
        let properties = &schema["properties"];
        assert_eq!(properties["url"]["description"], "Description of the URL on \"two\" lines.");
        assert_eq!(properties["url"]["x-connect"]["rediss"], 6380);
        assert_eq!(properties["count"]["maximum"], 255);
        assert_eq!(properties["count"]["default"], 10);
        assert_eq!(properties["secret"]["properties"]["password"]["x-secret"], true);
        assert_eq!(properties["names"]["items"]["type"], "string");
        assert_eq!(properties["headers"]["additionalProperties"]["type"], "string");
        assert_eq!(properties["kind"]["enum"], serde_json::json!(["long-poll", "none"]));
    }

    #[test]
    fn unknown_setting_is_rejected() {
        let error = serde_json::from_str::<Inner>(r#"{"password":"x","pasword":"y"}"#);
        assert!(error.is_err());
    }

    #[test]
    fn default_equals_schema_default() {
        let settings: AllTypes =
            serde_json::from_str(r#"{"url":"redis://h","names":[],"headers":{}}"#).unwrap();
        assert_eq!(settings.count, 10);
        assert_eq!(settings.kind, Kind::LongPoll);
    }

    #[test]
    fn quoted_fragment_is_escaped() {
        const TEXT: Fragment = Fragment::Quoted("a \"b\"\\\nc");
        const BYTES: [u8; TEXT.len()] = TEXT.bytes();
        let text: String = serde_json::from_slice(&BYTES).unwrap();
        assert_eq!(text, "a \"b\"\\\nc");
    }
}

//! Deserialization of values into the application's own types.

use crate::{
    toml_yaml_limits::{self, TooComplex},
    types::Snapshot,
};
use serde::de::DeserializeOwned;

/// Serialization format of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON.
    Json,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
}

/// Error of decoding a value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Missing media type, or one that stands for none of the supported formats.
    #[error("unknown format: the media type is {}, expected JSON, TOML or YAML; hint: use `decode_as`",
        .media_type.as_deref().unwrap_or("missing"))]
    UnknownFormat {
        /// Media type of the value, if it has one.
        media_type: Option<String>,
    },
    /// Content that is not valid UTF-8.
    #[error("the value is not UTF-8: {0}")]
    Encoding(#[from] std::str::Utf8Error),
    /// Content in UTF-16, with a byte order mark.
    #[error("the value is encoded as UTF-16, expected UTF-8")]
    Utf16,
    /// Number of TOML that other formats do not have.
    #[error("cannot decode the value as JSON: `{key}` is {number}")]
    NotFinite {
        /// Key of the number, with the keys of its tables.
        key: String,
        /// The number: `nan`, `inf` or `-inf`.
        number: f64,
    },
    /// Invalid JSON, or JSON that does not match the target type.
    #[error("cannot decode the value as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Invalid TOML, or TOML that does not match the target type.
    #[error("cannot decode the value as TOML: {0}")]
    Toml(#[from] toml::de::Error),
    /// Invalid YAML, or YAML that does not match the target type.
    #[error("cannot decode the value as YAML: {0}")]
    Yaml(#[from] serde_saphyr::Error),
    /// TOML document that exceeds the memory limit of parsing.
    #[error("cannot decode the value as TOML: {0}")]
    TooComplex(#[from] TooComplex),
}

impl Format {
    /// Returns the format of a media type, e.g. `application/json`, `text/yaml; charset=utf-8` or
    /// `application/vnd.example+json`. Returns `None` for other media types.
    #[must_use]
    pub fn of(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let subtype = essence.split_once('/').map_or(essence.as_str(), |(_, subtype)| subtype);
        let name = subtype.rsplit('+').next().unwrap_or(subtype);
        match name.strip_prefix("x-").unwrap_or(name) {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

impl Snapshot {
    /// Decodes the value into `T`. The media type selects the format.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnknownFormat`] if the media type is missing or unknown, and the other
    /// variants of [`DecodeError`] if the content is invalid.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        match self.media_type.as_deref().and_then(Format::of) {
            Some(format) => self.decode_as(format),
            None => Err(DecodeError::UnknownFormat {
                media_type: self.media_type.as_deref().map(Into::into),
            }),
        }
    }

    /// Decodes the value into `T` in the given format, regardless of the media type.
    ///
    /// Memory use is linear in the size of the value, with a factor that depends on the format and
    /// on `T`. The JSON parser is a streaming one, so only `T` takes memory: a `serde_json::Value`
    /// takes up to 65 times the size of the document. YAML is limited to 250,000 nodes (with
    /// aliases expanded) and 64 levels. Parsing TOML is limited to about 128 MiB of memory; a
    /// document that exceeds the limit is an error.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the content is invalid or exceeds a limit.
    pub fn decode_as<T: DeserializeOwned>(&self, format: Format) -> Result<T, DecodeError> {
        let text = text(&self.content)?;
        Ok(match format {
            Format::Json => serde_json::from_str(text)?,
            Format::Toml => {
                toml_yaml_limits::check_toml(text)?;
                toml::from_str(text)?
            }
            Format::Yaml => {
                serde_saphyr::from_str_with_options(text, toml_yaml_limits::yaml_options())?
            }
        })
    }
}

impl Snapshot {
    /// Decodes the value in the given format into the data model of JSON, regardless of the media type. The keys of
    /// tables keep their order. A date of TOML becomes a string; [`decode_as`](Self::decode_as) supports dates only
    /// for target types that do, such as `toml::value::Datetime`.
    ///
    /// # Errors
    ///
    /// See [`decode_as`](Self::decode_as). Also a number of TOML that is not finite.
    pub fn decode_document(&self, format: Format) -> Result<serde_json::Value, DecodeError> {
        match format {
            Format::Json | Format::Yaml => self.decode_as(format),
            Format::Toml => toml_to_json(self.decode_as(format)?, ""),
        }
    }
}

/// Returns the content as text, without a byte order mark.
///
/// # Errors
///
/// The content is not UTF-8.
pub fn text(content: &[u8]) -> Result<&str, DecodeError> {
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Err(DecodeError::Utf16);
    }
    let text = std::str::from_utf8(content)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Converts a value of TOML. `key` is its key, with the keys of its tables.
fn toml_to_json(value: toml::Value, key: &str) -> Result<serde_json::Value, DecodeError> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) if number.is_finite() => number.into(),
        toml::Value::Float(number) => {
            return Err(DecodeError::NotFinite { key: key.into(), number });
        }
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(items) => {
            let items = items.into_iter().map(|item| toml_to_json(item, key));
            items.collect::<Result<Vec<_>, _>>()?.into()
        }
        toml::Value::Table(table) => {
            let entry = |(name, value): (String, toml::Value)| {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                Ok::<_, DecodeError>((name, toml_to_json(value, &key)?))
            };
            serde_json::Value::Object(table.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Config {
        port: u16,
    }

    fn snapshot(content: &'static str, media_type: &str) -> Snapshot {
        Snapshot { media_type: Some(media_type.into()), ..Snapshot::new(content) }
    }

    #[test]
    fn media_type_selects_format() {
        for (content, media_type) in [
            (r#"{"port": 1}"#, "application/json"),
            ("port = 1", "application/toml"),
            ("port: 1", "text/x-yaml; charset=utf-8"),
            (r#"{"port": 1}"#, "application/vnd.example+JSON"),
        ] {
            let config: Config = snapshot(content, media_type).decode().expect(media_type);
            assert_eq!(config, Config { port: 1 });
        }
    }

    #[test]
    fn toml_document_keeps_dates_and_order() {
        let document = |text| Snapshot::new(text).decode_document(Format::Toml);
        let toml = "d = 2026-01-02\nt = 2026-01-02T03:04:05Z\nz = [1.5]\na = { c = true }\n";
        let json = r#"{"d":"2026-01-02","t":"2026-01-02T03:04:05Z","z":[1.5],"a":{"c":true}}"#;
        assert_eq!(document(toml).expect("a document").to_string(), json);
        let error = document("[a]\nb = [nan]").expect_err("not finite").to_string();
        assert_eq!(error, "cannot decode the value as JSON: `a.b` is NaN");
    }

    #[test]
    fn yaml_texts_that_look_like_other_values_are_kept() {
        let yaml = "country: NO\nonoff: on\ny: y\nmode: 0644\nid: 0008\nport: 80\n";
        let document = Snapshot::new(yaml).decode_document(Format::Yaml).expect("a document");
        let json = r#"{"country":"NO","onoff":"on","y":"y","mode":"0644","id":"0008","port":80}"#;
        assert_eq!(document.to_string(), json);
    }

    #[test]
    fn byte_order_mark_is_skipped() {
        let marked = Snapshot::new("\u{feff}{\"port\": 1}\r\n");
        assert_eq!(marked.decode_as::<Config>(Format::Json).expect("JSON"), Config { port: 1 });
        let utf16 = Snapshot::new(&b"\xff\xfe{\0}\0"[..]).decode_as::<Config>(Format::Json);
        assert!(utf16.expect_err("UTF-16").to_string().contains("UTF-16"));
    }

    #[test]
    fn toml_bomb_rejected() {
        let bomb = format!("a=[{}]", "{a=0},".repeat(200_000));
        let error = Snapshot::new(bomb).decode_as::<serde_json::Value>(Format::Toml);
        assert!(matches!(error, Err(DecodeError::TooComplex(_))), "{error:?}");
    }

    #[test]
    fn nested_yaml_anchors_limited() {
        let levels: String = (0..60).map(|level| format!("&a{level} [")).collect();
        let bomb = format!("{levels}{}1{}", "1,".repeat(100_000), "]".repeat(60));
        let error = Snapshot::new(bomb).decode_as::<serde_json::Value>(Format::Yaml);
        let error = error.expect_err("6,000,000 recorded events").to_string();
        assert!(error.contains("250001"), "{error}");
    }

    #[test]
    fn decode_error_names_line() {
        let error = snapshot("port = 'x'", "application/toml").decode::<Config>();
        assert!(error.expect_err("a string").to_string().contains("line 1"));
        let error = snapshot("1", "text/plain").decode::<Config>().expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "unknown format: the media type is text/plain, expected JSON, TOML or YAML; hint: use `decode_as`"
        );
    }
}

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
        let text = std::str::from_utf8(&self.content)?;
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

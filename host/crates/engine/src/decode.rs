//! From a value's bytes to the program's own types.

use crate::{
    decode_limits::{self, TooComplex},
    types::Snapshot,
};
use serde::de::DeserializeOwned;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON.
    Json,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
}

/// A value is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Its format is not known.
    #[error("the value does not say that it is JSON, TOML or YAML, but {}; use `decode_as`",
        .media_type.as_deref().unwrap_or("nothing"))]
    UnknownFormat {
        /// What it says.
        media_type: Option<String>,
    },
    /// It is not UTF-8.
    #[error("the value is not UTF-8: {0}")]
    Encoding(#[from] std::str::Utf8Error),
    /// It is not JSON, or not of this type.
    #[error("the value does not fit: {0}")]
    Json(#[from] serde_json::Error),
    /// It is not TOML, or not of this type.
    #[error("the value does not fit: {0}")]
    Toml(#[from] toml::de::Error),
    /// It is not YAML, or not of this type.
    #[error("the value does not fit: {0}")]
    Yaml(#[from] serde_saphyr::Error),
    /// It is TOML whose parsing would take too much memory.
    #[error("the value does not fit: {0}")]
    TooComplex(#[from] TooComplex),
}

impl Format {
    /// What a media type stands for: `application/json`, `text/yaml; charset=utf-8`,
    /// `application/vnd.example+json`, …
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
    /// The value as a type of the program's, by its media type.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; [`DecodeError::UnknownFormat`] when there is no telling media type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        match self.media_type.as_deref().and_then(Format::of) {
            Some(format) => self.decode_as(format),
            None => Err(DecodeError::UnknownFormat {
                media_type: self.media_type.as_deref().map(Into::into),
            }),
        }
    }

    /// The value as a type of the program's, in this format whatever its media type.
    ///
    /// The memory that this takes is linear in the size of the value, with a factor that depends on the
    /// format and the type: JSON is read as a stream, and only the type itself takes memory (a
    /// `serde_json::Value` up to 65 times the value's size). YAML has at most 250,000 nodes, aliases
    /// expanded, and 64 levels. Parsing TOML takes at most about 128 MiB; a value that would take more is an
    /// error.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode_as<T: DeserializeOwned>(&self, format: Format) -> Result<T, DecodeError> {
        let text = std::str::from_utf8(&self.content)?;
        Ok(match format {
            Format::Json => serde_json::from_str(text)?,
            Format::Toml => {
                decode_limits::check_toml(text)?;
                toml::from_str(text)?
            }
            Format::Yaml => {
                serde_saphyr::from_str_with_options(text, decode_limits::yaml_options())?
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
    fn a_value_is_decoded_by_its_media_type() {
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
    fn toml_bomb_is_an_error() {
        let bomb = format!("a=[{}]", "{a=0},".repeat(200_000));
        let error = Snapshot::new(bomb).decode_as::<serde_json::Value>(Format::Toml);
        assert!(matches!(error, Err(DecodeError::TooComplex(_))), "{error:?}");
    }

    #[test]
    fn yaml_anchors_in_anchors_are_limited() {
        let levels: String = (0..60).map(|level| format!("&a{level} [")).collect();
        let bomb = format!("{levels}{}1{}", "1,".repeat(100_000), "]".repeat(60));
        let error = Snapshot::new(bomb).decode_as::<serde_json::Value>(Format::Yaml);
        let error = error.expect_err("6,000,000 recorded events").to_string();
        assert!(error.contains("250001"), "{error}");
    }

    #[test]
    fn what_does_not_fit_says_where() {
        let error = snapshot("port = 'x'", "application/toml").decode::<Config>();
        assert!(error.expect_err("a string").to_string().contains("line 1"));
        let error = snapshot("1", "text/plain").decode::<Config>().expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "the value does not say that it is JSON, TOML or YAML, but text/plain; use `decode_as`"
        );
    }
}

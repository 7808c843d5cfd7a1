//! Tokens of the HTTP API and their scopes.

use reloader_util::digest::Digest;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::borrow::Cow;

/// Token that a client authenticates with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Token {
    /// Name of the token's owner, for the log. Unique.
    pub name: String,
    /// SHA-256 digest of the token, 64 hexadecimal digits. The command `token` creates a token and prints its
    /// digest.
    pub sha256: TokenDigest,
    /// Permissions of the token. Default: `read`.
    #[serde(default)]
    pub scope: Scope,
    /// Names of the sources that the token may access, at least one. Default: all sources.
    #[serde(default)]
    pub sources: Option<Vec<String>>,
}

/// Permissions of a client.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Scope {
    /// Read the status and the values of sources.
    #[default]
    Read,
    /// Read, and also reload, roll back and resume sources.
    Admin,
}

/// SHA-256 digest of a token. Tokens are long and random, so the digest does not reveal the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest(pub Digest);

impl<'de> Deserialize<'de> for TokenDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "64 hexadecimal digits; the command `token` creates a token and prints them";
        let text = reloader_util::units::text(deserializer, expected)?;
        let digest = text.parse().map_err(|_| de::Error::custom(format!("expected {expected}")))?;
        Ok(Self(digest))
    }
}

impl JsonSchema for TokenDigest {
    fn schema_name() -> Cow<'static, str> {
        "TokenDigest".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
    }
}

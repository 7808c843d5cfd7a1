//! Table `[listen]`: listening address, TLS and access of the HTTP API.

use reloader_util::digest::Digest;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

/// HTTP API: address, TLS and access.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ListenTable {
    /// Listening address: an IP address and a port such as `127.0.0.1:7878`, or a Unix socket such as
    /// `unix:/run/reloader/api.sock`. `host run --listen` takes precedence. A change takes effect at the
    /// next start. Default: the API is not served.
    pub address: Option<ListenAddress>,
    /// TLS settings. With this table the API is served over HTTPS. Default: HTTP.
    pub tls: Option<ListenTls>,
    /// Tokens that clients authenticate with. Tokens or client certificates are required if the address is
    /// neither a loopback address nor a Unix socket. Default: none; then each client has all permissions.
    pub token: Vec<Token>,
    /// Maximum number of open connections, at least 1. A change takes effect at the next start. Default:
    /// 10000.
    pub connections: u32,
}

impl Default for ListenTable {
    fn default() -> Self {
        Self { address: None, tls: None, token: Vec::new(), connections: 10_000 }
    }
}

/// Listening address of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// IP address and port.
    Tcp(SocketAddr),
    /// Path of a Unix socket. Only the user of the host can open it.
    Unix(PathBuf),
}

/// TLS settings of the API. The files are in PEM format and are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ListenTls {
    /// Certificate of the host, followed by the intermediate certificates.
    pub cert: PathBuf,
    /// Private key of `cert`.
    pub key: PathBuf,
    /// Certificate authorities of client certificates. A client with a valid certificate needs no token.
    /// Default: client certificates are not accepted.
    pub client_ca: Option<PathBuf>,
    /// Scope of clients that authenticate with a certificate. Default: `read`.
    #[serde(default)]
    pub client_scope: Scope,
}

/// Token that a client authenticates with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Token {
    /// Name of the token's owner, for the log. Unique.
    pub name: String,
    /// SHA-256 digest of the token, 64 hexadecimal digits. `host token` creates a token and prints its
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
    /// Read, and also refresh, roll back and resume sources.
    Admin,
}

/// SHA-256 digest of a token. Tokens are long and random, so the digest does not reveal the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest(pub Digest);

impl ListenAddress {
    /// Returns whether only the local machine can connect: a loopback address or a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(address) => match address.ip() {
                IpAddr::V4(ip) => ip.is_loopback(),
                IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST,
            },
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("expected a path after `unix:`".into());
            }
            return Ok(Self::Unix(path.into()));
        }
        let text = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        let expected = "expected an IP address and a port such as `127.0.0.1:7878` or `[::1]:7878`, \
                        or a Unix socket as `unix:PATH`";
        text.parse().map(Self::Tcp).map_err(|_| expected.into())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = reloader_util::units::text(deserializer, "a string such as \"127.0.0.1:7878\"")?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for ListenAddress {
    fn schema_name() -> Cow<'static, str> {
        "ListenAddress".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl<'de> Deserialize<'de> for TokenDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "64 hexadecimal digits; `host token` creates a token and prints them";
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

impl ListenTable {
    /// Returns whether a request needs a token or a client certificate on a TCP socket that is bound to
    /// `bound`.
    ///
    /// A socket that other machines can reach always requires one, because the table may have changed
    /// after the socket was bound.
    #[must_use]
    pub fn requires_credentials(&self, bound: SocketAddr) -> bool {
        !ListenAddress::Tcp(bound).is_local()
            || !self.token.is_empty()
            || self.client_ca().is_some()
    }

    /// Returns the file with the authorities of client certificates, if client certificates are accepted.
    #[must_use]
    pub fn client_ca(&self) -> Option<&Path> {
        self.tls.as_ref()?.client_ca.as_deref()
    }

    /// Returns whether the tables differ in settings that take effect at the next start: the address, the
    /// use of TLS, and the number of connections.
    pub(crate) fn needs_restart(&self, other: &Self) -> bool {
        let fixed = |table: &Self| (table.address.clone(), table.tls.is_some(), table.connections);
        fixed(self) != fixed(other)
    }

    /// Returns why the API cannot be served with these settings, if the address does not allow them.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let address = self.address.as_ref()?;
        if !address.is_local() && self.token.is_empty() && self.client_ca().is_none() {
            return Some(format!(
                "`{address}` is not loopback: tokens (`[[listen.token]]`; `host token` creates one) or \
                 client certificates (`client-ca` in `[listen.tls]`) are required"
            ));
        }
        if matches!(address, ListenAddress::Unix(_)) && self.tls.is_some() {
            return Some("`[listen.tls]` cannot be used with a Unix socket".into());
        }
        None
    }

    /// Returns the errors of the table: the JSON pointer in the table and a message. `known` are the names of
    /// the sources.
    pub(crate) fn errors(&self, known: &[&str]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        found.extend(self.problem().map(|problem| ("/address".to_owned(), problem)));
        if self.connections == 0 {
            found.push(("/connections".into(), "expected at least 1".into()));
        }
        let mut names = BTreeSet::new();
        for (index, token) in self.token.iter().enumerate() {
            if !names.insert(&token.name) {
                let message = format!("duplicate token name `{}`", token.name);
                found.push((format!("/token/{index}/name"), message));
            }
            let Some(sources) = &token.sources else { continue };
            if sources.is_empty() {
                let message = "expected at least one source; omit the key to allow all sources";
                found.push((format!("/token/{index}/sources"), message.into()));
            }
            for (at, source) in sources.iter().enumerate() {
                if !known.contains(&source.as_str()) {
                    let message = super::deserialize::unknown_name("source", source, known);
                    found.push((format!("/token/{index}/sources/{at}"), message));
                }
            }
        }
        found
    }
}

//! `[listen]`: where the API is served, and for whom.

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

/// Where the API is served, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ListenTable {
    /// An address and a port, `127.0.0.1:7878`; or the path of a socket, `unix:/run/reloader/api.sock`.
    /// By default nothing is served. `host run --listen` comes first.
    pub address: Option<ListenAddress>,
    /// HTTPS instead of HTTP.
    pub tls: Option<ListenTls>,
    /// Who may ask, by the token that they show. Without any, whoever reaches a loopback address may do
    /// everything.
    pub token: Vec<Token>,
    /// So many connections are open at a time. Default: 10000.
    pub connections: u32,
}

impl Default for ListenTable {
    fn default() -> Self {
        Self { address: None, tls: None, token: Vec::new(), connections: 10_000 }
    }
}

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a socket, which only the host's own user can open.
    Unix(PathBuf),
}

/// How HTTPS is served. Files are PEM, and are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ListenTls {
    /// The certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of clients' certificates: whoever shows one needs no token.
    pub client_ca: Option<PathBuf>,
    /// What those may do. Default: `read`.
    #[serde(default)]
    pub client_scope: Scope,
}

/// A token that somebody shows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Token {
    /// Whose it is, for the log.
    pub name: String,
    /// Its SHA-256, in hexadecimal. `host token` makes a token, and this.
    pub sha256: TokenDigest,
    /// What it is good for. Default: `read`.
    #[serde(default)]
    pub scope: Scope,
    /// The sources that it is good for. Default: all.
    #[serde(default)]
    pub sources: Option<Vec<String>>,
}

/// What somebody may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Scope {
    /// See how sources are, and their values.
    #[default]
    Read,
    /// Also reload, roll back and resume them.
    Admin,
}

/// The SHA-256 of a token. A token is long and random, so that nobody finds it out from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest(pub Digest);

impl ListenAddress {
    /// Whether only this machine can reach it.
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
        let expected = "expected an address and a port like `127.0.0.1:7878` or `[::1]:7878`, or \
                        `unix:` and a path";
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
        let text = reloader_util::units::text(deserializer, "a text like \"127.0.0.1:7878\"")?;
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
        let expected = "64 hexadecimal digits; `host token` makes a token and prints them";
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
    /// Whether a request needs a token or a client certificate on a TCP socket that is bound to `bound`.
    ///
    /// A socket that other machines can reach requires one whatever this table says: the table may have
    /// changed after the socket was bound.
    #[must_use]
    pub fn requires_credentials(&self, bound: SocketAddr) -> bool {
        !ListenAddress::Tcp(bound).is_local()
            || !self.token.is_empty()
            || self.client_ca().is_some()
    }

    /// The authorities of client certificates, if client certificates are accepted.
    #[must_use]
    pub fn client_ca(&self) -> Option<&Path> {
        self.tls.as_ref()?.client_ca.as_deref()
    }

    /// Whether it differs from `other` in settings that take effect at the next start: the address, whether
    /// TLS is used, the number of connections.
    pub(crate) fn needs_restart(&self, other: &Self) -> bool {
        let fixed = |table: &Self| (table.address.clone(), table.tls.is_some(), table.connections);
        fixed(self) != fixed(other)
    }

    /// Why it cannot be served like this, if so.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let address = self.address.as_ref()?;
        if !address.is_local() && self.token.is_empty() && self.client_ca().is_none() {
            return Some(format!(
                "`{address}` can be reached from other machines, so it takes tokens (`[[listen.token]]`; \
                 `host token` makes one) or clients' certificates (`[listen.tls]`, `client-ca`)"
            ));
        }
        if matches!(address, ListenAddress::Unix(_)) && self.tls.is_some() {
            return Some("a socket of this machine is served without `[listen.tls]`".into());
        }
        None
    }

    /// What is wrong with it by itself: the pointer below it, and why.
    pub(crate) fn mistakes(&self, known: &[&str]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        found.extend(self.problem().map(|problem| ("/address".to_owned(), problem)));
        if self.connections == 0 {
            found.push(("/connections".into(), "expected at least 1".into()));
        }
        let mut names = BTreeSet::new();
        for (index, token) in self.token.iter().enumerate() {
            if !names.insert(&token.name) {
                let message = format!("there is another token named `{}`", token.name);
                found.push((format!("/token/{index}/name"), message));
            }
            let Some(sources) = &token.sources else { continue };
            if sources.is_empty() {
                let message = "expected the name of at least one source; all are meant without it";
                found.push((format!("/token/{index}/sources"), message.into()));
            }
            for (at, source) in sources.iter().enumerate() {
                if !known.contains(&source.as_str()) {
                    let message = super::deserialize::did_you_mean("source", source, known);
                    found.push((format!("/token/{index}/sources/{at}"), message));
                }
            }
        }
        found
    }
}

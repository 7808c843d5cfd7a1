//! Table `[listen]`: listening address, TLS and access of the HTTP API.

use super::{
    api_tokens::{Scope, Token},
    listen_address::ListenAddress,
    unknown_name::unknown_name,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    collections::{BTreeSet, HashSet},
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// HTTP API: address, TLS and access.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ListenTable {
    /// Listening address: an IP address and a port such as `127.0.0.1:7878`, or a Unix socket such as
    /// `unix:/run/reloader/api.sock`. The argument `run --listen` takes precedence. A change takes effect at the
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

impl ListenTable {
    /// Returns whether a request needs a token or a client certificate on a TCP socket that is bound to
    /// `bound`.
    ///
    /// A socket that other machines can reach always requires one of them, because a reload may have removed
    /// all tokens from the table after the socket was bound.
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

    /// Sorts the sources of each token, so that a name is found by binary search.
    pub(crate) fn sort_token_sources(&mut self) {
        for sources in self.token.iter_mut().filter_map(|token| token.sources.as_mut()) {
            sources.sort_unstable();
        }
    }

    /// Returns whether the tables differ in settings that take effect at the next start: the address, the
    /// use of TLS, and the maximum number of connections.
    pub(crate) fn needs_restart(&self, other: &Self) -> bool {
        let fixed = |table: &Self| (table.address.clone(), table.tls.is_some(), table.connections);
        fixed(self) != fixed(other)
    }

    /// Returns why the address and the other settings of the table conflict, or `None` if they do not.
    #[must_use]
    pub fn address_error(&self) -> Option<String> {
        let address = self.address.as_ref()?;
        if !address.is_local() && self.token.is_empty() && self.client_ca().is_none() {
            return Some(format!(
                "`{address}` is not loopback: tokens (`[[listen.token]]`; `{} token` creates one) or \
                 client certificates (`client-ca` in `[listen.tls]`) are required",
                reloader_util::program_name::get()
            ));
        }
        if matches!(address, ListenAddress::Unix(_)) && self.tls.is_some() {
            return Some("`[listen.tls]` cannot be used with a Unix socket".into());
        }
        None
    }

    /// Returns the errors of the table, each as a JSON pointer relative to the table and a message. `known`
    /// contains the names of all sources.
    pub(crate) fn errors(&self, known: &[&str]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        found.extend(self.address_error().map(|error| ("/address".to_owned(), error)));
        if self.connections == 0 {
            found.push(("/connections".into(), "expected at least 1".into()));
        }
        let known_names: HashSet<&str> = known.iter().copied().collect();
        let mut names = BTreeSet::new();
        for (index, token) in self.token.iter().enumerate() {
            if !names.insert(&token.name) {
                let message = format!("duplicate token name `{}`", token.name);
                found.push((format!("/token/{index}/name"), message));
            }
            let Some(sources) = &token.sources else { continue };
            if sources.is_empty() {
                let message =
                    "expected at least one source; hint: omit the key to allow all sources";
                found.push((format!("/token/{index}/sources"), message.into()));
            }
            for (at, source) in sources.iter().enumerate() {
                if !known_names.contains(source.as_str()) {
                    let message = unknown_name("source", source, known);
                    found.push((format!("/token/{index}/sources/{at}"), message));
                }
            }
        }
        found
    }
}

//! Who asks, and what they may do.

use super::problem::Problem;
use crate::{
    app::{Config, Handle, ListenAddress, ListenTable, Scope, Token},
    digest::Digest,
};
use http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};
use std::{net::IpAddr, sync::Arc};
use subtle::ConstantTimeEq;

/// How a connection has come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// Over the control socket: whoever may open it may read the state, too.
    Operator,
    /// Over another socket that only the host's own user can open.
    Own,
    /// Over the network, perhaps with a certificate that was verified.
    Network { has_certificate: bool },
}

/// What somebody has shown. It is looked at again while they stay connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential {
    Nothing,
    Token(Digest),
}

/// Somebody who may ask.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    scope: Scope,
    /// The only sources that they may know of, if not all.
    sources: Option<Vec<String>>,
    peer: Peer,
    credential: Credential,
    /// What the configuration said when this was found out.
    config: Arc<Config>,
}

impl Caller {
    /// Whoever that is.
    ///
    /// # Errors
    ///
    /// When it is nobody who may ask.
    pub(super) fn of(
        config: Arc<Config>,
        peer: Peer,
        credential: Credential,
    ) -> Result<Self, Problem> {
        let listen = &config.listen;
        let (scope, sources) = match credential {
            Credential::Token(digest) => {
                let token = find(&listen.token, &digest).ok_or_else(|| {
                    Problem::unauthorized("this token is none of those in the configuration")
                })?;
                (token.scope, token.sources.clone())
            }
            Credential::Nothing => (scope_of(listen, peer)?, None),
        };
        Ok(Self { scope, sources, peer, credential, config })
    }

    /// Whether they still may ask, when the configuration is another one.
    pub(super) fn again(&self, handle: &Handle) -> Result<Self, Problem> {
        let config = handle.config();
        if Arc::ptr_eq(&config, &self.config) {
            return Ok(self.clone());
        }
        Self::of(config, self.peer, self.credential)
    }

    /// Whether they may know of a source.
    pub(super) fn sees(&self, source: &str) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.iter().any(|name| name == source))
    }

    /// Whether these are other sources than those that another one may know of.
    pub(super) fn sees_other_than(&self, other: &Self) -> bool {
        self.sources != other.sources
    }

    /// Whether they may know of all sources.
    pub(super) fn sees_all(&self) -> bool {
        self.sources.is_none()
    }

    /// Whether they may read also what is secret.
    pub(super) fn reads_all(&self) -> bool {
        self.peer == Peer::Operator
    }

    /// Refuses what they may not know of.
    pub(super) fn may_see(&self, source: &str) -> Result<(), Problem> {
        if self.sees(source) {
            return Ok(());
        }
        Err(Problem::forbidden(format!("this token is not good for source `{source}` (`sources`)")))
    }

    /// Refuses what they may not change.
    pub(super) fn may_change(&self, source: &str) -> Result<(), Problem> {
        self.may_see(source)?;
        if self.scope >= Scope::Admin {
            return Ok(());
        }
        Err(Problem::forbidden("this takes the scope `admin`, and here is `read`"))
    }
}

/// What somebody may do who shows no token.
fn scope_of(listen: &ListenTable, peer: Peer) -> Result<Scope, Problem> {
    let tls = listen.tls.as_ref();
    match peer {
        Peer::Operator | Peer::Own => Ok(Scope::Admin),
        Peer::Network { has_certificate: true } => {
            Ok(tls.map_or(Scope::Read, |tls| tls.client_scope))
        }
        Peer::Network { has_certificate: false } => {
            let asks = !listen.token.is_empty() || tls.is_some_and(|tls| tls.client_ca.is_some());
            if asks {
                return Err(Problem::unauthorized("send `Authorization: Bearer TOKEN`"));
            }
            Ok(Scope::Admin)
        }
    }
}

/// Each is looked at, and each for as long: how long it takes tells nothing.
fn find<'a>(tokens: &'a [Token], digest: &Digest) -> Option<&'a Token> {
    let is_it = |token: &&Token| bool::from(token.sha256.0.as_bytes().ct_eq(digest.as_bytes()));
    let mut found = None;
    for token in tokens {
        if is_it(&token) {
            found = Some(token);
        }
    }
    found
}

/// What a request shows.
///
/// # Errors
///
/// When that is nothing that counts.
pub(super) fn credential(headers: &HeaderMap) -> Result<Credential, Problem> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(Credential::Nothing) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() && given.next().is_none() => {
            Ok(Credential::Token(Digest::of(token.as_bytes())))
        }
        _ => Err(Problem::unauthorized("expected `Authorization: Bearer TOKEN`")),
    }
}

/// Refuses what a browser sends for another page than the host's own. A page from elsewhere could
/// otherwise use whoever looks at it, who may reach the host where the page itself may not.
pub(super) fn not_from_other_pages(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let elsewhere = || Problem::forbidden("requests of other sites' pages are not answered");
    let mut sites = headers.get_all("sec-fetch-site").iter();
    if !sites.all(|site| site == "same-origin" || site == "none") {
        return Err(elsewhere());
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let is_own = origin.zip(host(headers, uri)).is_some_and(|((scheme, authority), host)| {
            ["http", "https"].contains(&scheme) && authority.eq_ignore_ascii_case(host.as_str())
        });
        if !is_own {
            return Err(elsewhere());
        }
    }
    Ok(())
}

/// Refuses a name that somebody has made point here, where no token is asked for: to a browser, pages from
/// there would be the host's own.
pub(super) fn not_by_other_names(
    headers: &HeaderMap,
    uri: &Uri,
    peer: Peer,
    config: &Config,
) -> Result<(), Problem> {
    let is_of_network = matches!(peer, Peer::Network { .. });
    let is_trusting = config.listen.token.is_empty() && is_of_network;
    if is_trusting && !host(headers, uri).is_some_and(|host| is_this_machine(&host, &config.listen))
    {
        let detail = "expected a `Host` that is an address of this machine, or `localhost`";
        return Err(Problem::new(http::StatusCode::MISDIRECTED_REQUEST, detail));
    }
    Ok(())
}

fn host(headers: &HeaderMap, uri: &Uri) -> Option<Authority> {
    let named = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let named = named.and_then(|host| Authority::try_from(host).ok());
    named.or_else(|| uri.authority().cloned())
}

fn is_this_machine(host: &Authority, listen: &ListenTable) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    // With clients' certificates, names are as good as addresses.
    if listen.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
        return true;
    }
    match (name.parse::<IpAddr>(), &listen.address) {
        (Ok(ip), Some(ListenAddress::Tcp(address))) => ip.is_loopback() || ip == address.ip(),
        (Ok(ip), _) => ip.is_loopback(),
        (Err(_), _) => false,
    }
}

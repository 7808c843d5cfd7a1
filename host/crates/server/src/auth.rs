//! Who asks, and what they may do.

use crate::{problem::Problem, tls::ClientCertificate};
use http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};
use reloader_app::{Config, Handle, ListenTable, Scope, Token};
use reloader_util::digest::Digest;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use subtle::ConstantTimeEq;

/// The socket on which a connection was accepted, and what its client has presented. Both stay the same while
/// the connection is open; the configuration may change.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// The control socket: whoever may open it may read the state, too.
    ControlSocket,
    /// Another socket that only the host's own user can open.
    UnixSocket,
    /// A TCP socket that is bound to this address.
    Network { bound: SocketAddr, certificate: Option<Arc<ClientCertificate>> },
}

/// What somebody has shown. It is looked at again while they stay connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    Nothing,
    Token(Digest),
}

/// A client that may send requests, and what it may do. [`Caller::again`] looks at the present configuration.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    scope: Scope,
    /// The only sources that they may know of, if not all.
    sources: Option<Vec<String>>,
    peer: Peer,
    credential: Credential,
}

impl Caller {
    /// Returns what a client may do under this configuration.
    ///
    /// # Errors
    ///
    /// A token or certificate that is missing or not accepted.
    pub(crate) fn of(config: &Config, peer: Peer, credential: Credential) -> Result<Self, Problem> {
        let listen = &config.listen;
        let (scope, sources) = match credential {
            Credential::Token(digest) => {
                let token = find(&listen.token, &digest).ok_or_else(|| {
                    Problem::unauthorized("this token is none of those in the configuration")
                })?;
                (token.scope, token.sources.clone())
            }
            Credential::Nothing => (scope_without_token(listen, &peer)?, None),
        };
        Ok(Self { scope, sources, peer, credential })
    }

    /// Returns what the client may do under the present configuration, with its certificate as it is trusted
    /// now.
    ///
    /// # Errors
    ///
    /// A token or certificate that was revoked.
    pub(crate) fn again(&self, handle: &Handle) -> Result<Self, Problem> {
        Self::of(&handle.config(), self.peer.clone(), self.credential)
    }

    /// Whether they may know of a source.
    pub(crate) fn sees(&self, source: &str) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.iter().any(|name| name == source))
    }

    /// Whether these are other sources than those that another one may know of.
    pub(crate) fn sees_other_than(&self, other: &Self) -> bool {
        self.sources != other.sources
    }

    /// Whether they may know of all sources.
    pub(crate) fn sees_all(&self) -> bool {
        self.sources.is_none()
    }

    /// Whether they may read also what is secret.
    pub(crate) fn reads_all(&self) -> bool {
        matches!(self.peer, Peer::ControlSocket)
    }

    /// Refuses what they may not know of.
    pub(crate) fn may_see(&self, source: &str) -> Result<(), Problem> {
        if self.sees(source) {
            return Ok(());
        }
        Err(Problem::forbidden(format!("this token is not good for source `{source}` (`sources`)")))
    }

    /// Refuses what they may not change.
    pub(crate) fn may_change(&self, source: &str) -> Result<(), Problem> {
        self.may_see(source)?;
        if self.scope >= Scope::Admin {
            return Ok(());
        }
        Err(Problem::forbidden("this takes the scope `admin`, and here is `read`"))
    }
}

/// Returns what a client without a token may do.
fn scope_without_token(listen: &ListenTable, peer: &Peer) -> Result<Scope, Problem> {
    let Peer::Network { bound, certificate } = peer else { return Ok(Scope::Admin) };
    let is_trusted = certificate.as_ref().is_some_and(|certificate| certificate.is_trusted(listen));
    if let Some(tls) = listen.tls.as_ref().filter(|_| is_trusted) {
        return Ok(tls.client_scope);
    }
    if listen.requires_credentials(*bound) {
        return Err(Problem::unauthorized("send `Authorization: Bearer TOKEN`"));
    }
    Ok(Scope::Admin)
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
pub(crate) fn credential(headers: &HeaderMap) -> Result<Credential, Problem> {
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
pub(crate) fn not_from_other_pages(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
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

/// Refuses a `Host` that is not an address of this machine, where clients need no token: a page whose name
/// was made to resolve to this machine (DNS rebinding) would be of the host's own origin to a browser.
pub(crate) fn not_by_other_names(
    headers: &HeaderMap,
    uri: &Uri,
    peer: &Peer,
    config: &Config,
) -> Result<(), Problem> {
    let Peer::Network { bound, .. } = peer else { return Ok(()) };
    let listen = &config.listen;
    // A page can send neither a token nor, without the user's consent, a client certificate.
    if !listen.token.is_empty() || listen.client_ca().is_some() {
        return Ok(());
    }
    if host(headers, uri).is_some_and(|host| is_this_machine(&host, bound.ip())) {
        return Ok(());
    }
    let detail = "expected a `Host` that is an address of this machine, or `localhost`";
    Err(Problem::new(http::StatusCode::MISDIRECTED_REQUEST, detail))
}

fn host(headers: &HeaderMap, uri: &Uri) -> Option<Authority> {
    let named = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let named = named.and_then(|host| Authority::try_from(host).ok());
    named.or_else(|| uri.authority().cloned())
}

fn is_this_machine(host: &Authority, bound: IpAddr) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == bound)
}

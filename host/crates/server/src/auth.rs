//! Authentication and authorisation: bearer tokens, client certificates, scopes, cross-origin requests, DNS
//! rebinding.

use crate::{problem::Problem, tls::ClientCertificate};
use http::{HeaderMap, HeaderValue, Uri, Version, header, uri::Authority};
use reloader_app::{Config, Handle, ListenTable, Scope, Token};
use reloader_util::digest::Digest;
use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use subtle::ConstantTimeEq;

/// Socket on which a connection was accepted, and the certificate that its client has presented. Both are fixed
/// for the lifetime of the connection, although the configuration may change.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// Control socket. A client that can open the socket can also read the state files, so the client may read secrets.
    ControlSocket,
    /// Unix socket of the API. Only the user of the host can open it.
    UnixSocket,
    /// TCP socket that is bound to the address `bound`.
    Network { bound: SocketAddr, certificate: Option<Arc<ClientCertificate>> },
}

/// Credential in the `Authorization` header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    Missing,
    /// SHA-256 digest of the bearer token in the request.
    Token(Digest),
}

/// Authenticated client, with its permissions under one configuration. Long-lived requests call
/// [`Caller::reauthenticate`] after each change of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    scope: Scope,
    visible: VisibleSources,
    peer: Peer,
    credential: Credential,
}

/// Sources that a caller may access. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum VisibleSources {
    /// All sources.
    All,
    /// Sources of the token with this index in the configuration.
    OfToken(Arc<Config>, usize),
}

impl VisibleSources {
    /// Returns the names of the sources, sorted; `None` for all sources.
    fn names(&self) -> Option<&[String]> {
        match self {
            Self::All => None,
            Self::OfToken(config, index) => config.listen.token[*index].sources.as_deref(),
        }
    }

    /// Returns `true` if the source is visible.
    pub(crate) fn contains(&self, source: &str) -> bool {
        let is_named =
            |names: &[String]| names.binary_search_by(|name| (**name).cmp(source)).is_ok();
        self.names().is_none_or(is_named)
    }

    /// Returns `true` if all sources are visible.
    pub(crate) fn contains_all(&self) -> bool {
        self.names().is_none()
    }

    /// Returns a key for comparisons: the configuration and the index of the token; `None` for all sources.
    fn identity(&self) -> Option<(*const Config, usize)> {
        match self {
            Self::All => None,
            Self::OfToken(config, index) => Some((Arc::as_ptr(config), *index)),
        }
    }
}

impl PartialEq for VisibleSources {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for VisibleSources {}

impl Hash for VisibleSources {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl Caller {
    /// Authenticates a client under a configuration.
    ///
    /// # Errors
    ///
    /// Returns a problem of status 401 if the token or certificate is missing or not accepted.
    pub(crate) fn authenticate(
        config: &Arc<Config>,
        peer: Peer,
        credential: Credential,
    ) -> Result<Self, Problem> {
        let listen = &config.listen;
        let (scope, visible) = match credential {
            Credential::Token(digest) => {
                let (index, token) = find_token(&listen.token, &digest)
                    .ok_or_else(|| Problem::unauthorized("invalid token"))?;
                let visible = match token.sources {
                    Some(_) => VisibleSources::OfToken(Arc::clone(config), index),
                    None => VisibleSources::All,
                };
                (token.scope, visible)
            }
            Credential::Missing => (scope_without_token(listen, &peer)?, VisibleSources::All),
        };
        Ok(Self { scope, visible, peer, credential })
    }

    /// Authenticates the same client under the present configuration and the present certificate authorities.
    ///
    /// # Errors
    ///
    /// Returns a problem of status 401 if the token or certificate was revoked.
    pub(crate) fn reauthenticate(&self, handle: &Handle) -> Result<Self, Problem> {
        Self::authenticate(&handle.config(), self.peer.clone(), self.credential)
    }

    /// Returns `true` if the caller may access a source.
    pub(crate) fn can_access(&self, source: &str) -> bool {
        self.visible.contains(source)
    }

    /// Returns `true` if the accessible sources differ from those of `other`.
    pub(crate) fn has_other_sources_than(&self, other: &Self) -> bool {
        self.visible != other.visible && self.visible.names() != other.visible.names()
    }

    /// Returns `true` if the caller may access all sources.
    pub(crate) fn can_access_all(&self) -> bool {
        self.visible.contains_all()
    }

    /// Returns the sources that the caller may access.
    pub(crate) fn visible(&self) -> &VisibleSources {
        &self.visible
    }

    /// Returns `true` if the caller may read values that are secret.
    fn reads_secrets(&self) -> bool {
        matches!(self.peer, Peer::ControlSocket)
    }

    /// Returns a problem of status 403 if the caller may not access a source.
    pub(crate) fn check_access(&self, source: &str) -> Result<(), Problem> {
        if self.can_access(source) {
            return Ok(());
        }
        Err(Problem::forbidden(format!("this token may not access source `{source}`")))
    }

    /// Returns a problem of status 403 if the caller may not access a source, or may not read its values. If the values
    /// are configured as not readable, only clients of the control socket may read them.
    pub(crate) fn check_readable(&self, handle: &Handle, source: &str) -> Result<(), Problem> {
        self.check_access(source)?;
        if !self.reads_secrets() && handle.is_readable(source) == Some(false) {
            let detail = format!(
                "the values of source `{source}` are secrets (`store = false`); hint: set `readable = true` to allow \
                 reads"
            );
            return Err(Problem::forbidden(detail));
        }
        Ok(())
    }

    /// Returns a problem of status 403 if the caller may not change a source.
    pub(crate) fn check_admin(&self, source: &str) -> Result<(), Problem> {
        self.check_access(source)?;
        if self.scope >= Scope::Admin {
            return Ok(());
        }
        let credential = match self.credential {
            Credential::Token(_) => "token",
            Credential::Missing => "client certificate",
        };
        Err(Problem::forbidden(format!("requires scope `admin`; this {credential} has `read`")))
    }
}

/// Returns the scope of a client that has sent no token.
fn scope_without_token(listen: &ListenTable, peer: &Peer) -> Result<Scope, Problem> {
    let Peer::Network { bound, certificate } = peer else { return Ok(Scope::Admin) };
    let is_trusted = certificate.as_ref().is_some_and(|certificate| certificate.is_trusted(listen));
    if let Some(tls) = listen.tls.as_ref().filter(|_| is_trusted) {
        return Ok(tls.client_scope);
    }
    if listen.requires_credentials(*bound) {
        let detail = "authentication required: send `Authorization: Bearer TOKEN`";
        return Err(Problem::unauthorized(detail));
    }
    Ok(Scope::Admin)
}

/// Returns the token with this digest, and its index. Compares all tokens in constant time, so that the response time
/// reveals nothing about the digests.
fn find_token<'a>(tokens: &'a [Token], digest: &Digest) -> Option<(usize, &'a Token)> {
    let matches = |token: &&Token| bool::from(token.sha256.0.as_bytes().ct_eq(digest.as_bytes()));
    let mut found = None;
    for (index, token) in tokens.iter().enumerate() {
        if matches(&token) {
            found = Some((index, token));
        }
    }
    found
}

/// Parses the `Authorization` header of a request.
///
/// # Errors
///
/// Returns a problem of status 401 if the header has another scheme, is malformed, or occurs twice.
pub(crate) fn parse_credential(headers: &HeaderMap) -> Result<Credential, Problem> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(Credential::Missing) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() && given.next().is_none() => {
            Ok(Credential::Token(Digest::of(token.as_bytes())))
        }
        _ => {
            let detail = "invalid `Authorization` header: expected `Authorization: Bearer TOKEN`";
            Err(Problem::unauthorized(detail))
        }
    }
}

/// Returns a problem of status 403 for a cross-origin request of a browser. Without this check, a page of another
/// site could send requests through the browser of a user who can reach the host (CSRF).
pub(crate) fn reject_cross_origin(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let rejected = || Problem::forbidden("cross-origin request rejected");
    let mut sites = headers.get_all("sec-fetch-site").iter();
    if !sites.all(|site| site == "same-origin" || site == "none") {
        return Err(rejected());
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let target = request_authority(headers, uri);
        let is_own = origin.zip(target).is_some_and(|((scheme, authority), target)| {
            ["http", "https"].contains(&scheme) && authority.eq_ignore_ascii_case(target.as_str())
        });
        if !is_own {
            return Err(rejected());
        }
    }
    Ok(())
}

/// Returns a problem of status 421 if clients need no credential and the `Host` header names neither `localhost`
/// nor an address of this machine. This prevents DNS rebinding: an attacker makes the domain of a web page resolve
/// to this machine, so that the page may read the responses of the host as its own origin.
pub(crate) fn reject_dns_rebinding(
    headers: &HeaderMap,
    uri: &Uri,
    peer: &Peer,
    config: &Config,
) -> Result<(), Problem> {
    let Peer::Network { bound, .. } = peer else { return Ok(()) };
    let listen = &config.listen;
    // A page of another site can send neither a token nor, without the user's consent, a client certificate.
    if !listen.token.is_empty() || listen.client_ca().is_some() {
        return Ok(());
    }
    if request_authority(headers, uri).is_some_and(|host| is_this_machine(&host, bound.ip())) {
        return Ok(());
    }
    let detail =
        "invalid `Host` header: expected `localhost` or the IP address at which the host listens";
    Err(Problem::new(http::StatusCode::MISDIRECTED_REQUEST, detail))
}

/// Returns a problem of status 400 if the `Host` header is missing, occurs twice, or is malformed (RFC 9112, section
/// 3.2).
pub(crate) fn check_host_header(headers: &HeaderMap, version: Version) -> Result<(), Problem> {
    let mut given = headers.get_all(header::HOST).iter();
    let host = given.next();
    let is_valid = match host {
        // The header is empty if the request target has no authority.
        Some(host) => host.is_empty() || Authority::try_from(host.as_bytes()).is_ok(),
        None => version < Version::HTTP_11,
    };
    if is_valid && given.next().is_none() {
        return Ok(());
    }
    Err(Problem::bad_request("expected one `Host` header with a host and an optional port"))
}

/// Returns the host and port that a request is addressed to. The target of the request takes precedence over the
/// `Host` header (RFC 9112, section 3.2.2).
fn request_authority(headers: &HeaderMap, uri: &Uri) -> Option<Authority> {
    let named = || headers.get(header::HOST).map(HeaderValue::as_bytes);
    uri.authority().cloned().or_else(|| Authority::try_from(named()?).ok())
}

/// Returns `true` for `localhost`, loopback addresses, and the address that the host listens on.
fn is_this_machine(host: &Authority, bound: IpAddr) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == bound)
}

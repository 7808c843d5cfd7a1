//! Hosts and ports in one spelling, so that comparing them is comparing what they reach.

use std::{fmt, net::IpAddr};
use url::Host;

/// A host and a port. Names are in lower case, without a trailing dot, and in their ASCII form;
/// addresses in the usual notation, however they were written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: Host<String>,
    port: u16,
}

/// Not a host name and not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` is not a host name or an address: {reason}")]
pub struct AddressError {
    host: String,
    reason: String,
}

impl AddressError {
    pub(super) fn new(host: &str, reason: &str) -> Self {
        Self { host: host.into(), reason: reason.into() }
    }
}

impl HostPort {
    /// Takes a name or an address as people and plugins write them.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        // An IPv6 address has brackets in a URL, and often none elsewhere.
        let parsed = match host.parse() {
            Ok(address) => Ok(Host::Ipv6(address)),
            Err(_) => Host::parse(host.strip_suffix('.').unwrap_or(host)),
        };
        match parsed {
            Ok(Host::Domain(name)) if name.contains('*') => {
                Err(AddressError::new(host, "`*.` can only stand in front of a domain"))
            }
            Ok(host) => Ok(Self { host, port }),
            Err(error) => Err(AddressError { host: host.into(), reason: error.to_string() }),
        }
    }

    /// The name or address, without brackets: what is resolved and dialled.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The address, if it is one and not a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// Whether it is the name by which machines call themselves (RFC 6761).
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            _ => false,
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where HTTP requests go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpOrigin {
    /// `https` rather than `http`.
    pub tls: bool,
    /// Where.
    pub address: HostPort,
}

impl HttpOrigin {
    /// From `https://HOST[:PORT]`, or with `http`; nothing may follow but a `/`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = url::Url::parse(text).ok()?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let address = HostPort::new(url.host_str()?, url.port_or_known_default()?).ok()?;
        bare.then_some(Self { tls, address })
    }
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

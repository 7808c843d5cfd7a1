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
    pub(crate) fn new(host: &str, reason: &str) -> Self {
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
            Err(_) => Host::parse(host),
        };
        let refused = |reason: &str| AddressError::new(host, reason);
        match parsed.map_err(|error| refused(&error.to_string()))? {
            Host::Domain(name) => {
                // Only now, as it may have been written as `%2e`.
                let name = name.strip_suffix('.').unwrap_or(&name);
                if name.split('.').any(str::is_empty) {
                    return Err(refused("a part of it is empty"));
                }
                if name.contains('*') {
                    return Err(refused("`*.` can only stand in front of a domain"));
                }
                Ok(Self { host: Host::Domain(name.into()), port })
            }
            address => Ok(Self { host: address, port }),
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

/// Of the URL of a request.
impl TryFrom<&http::Uri> for HttpOrigin {
    type Error = AddressError;

    fn try_from(uri: &http::Uri) -> Result<Self, AddressError> {
        let tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        // An authority can hold more than host and port.
        let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        let host = uri.host().filter(|_| plain).unwrap_or_default();
        Ok(Self { tls, address: HostPort::new(host, port)? })
    }
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling_however_its_last_dot_is_written() {
        for text in ["a.b", "a.b.", "A.b%2e", "a.b\u{3002}"] {
            let address = HostPort::new(text, 80).expect("a name");
            assert_eq!(address.host(), "a.b", "{text}");
            assert_eq!(HostPort::new(&address.host(), 80), Ok(address));
        }
        for text in ["", ".", "..", "a..", "a.%2e", ".a", "a..b", "127.0.0.1.."] {
            assert!(HostPort::new(text, 80).is_err(), "{text}");
        }
    }
}

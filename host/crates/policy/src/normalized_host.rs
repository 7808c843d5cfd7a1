//! Normalised hosts, ports and HTTP origins: two equal values reach the same host.

use std::{fmt, net::IpAddr};
use url::Host;

/// Normalised host and port. Host names are in lower case and ASCII form (Punycode), without a trailing dot.
/// IP addresses are in canonical notation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: Host<String>,
    port: u16,
}

/// Text that is neither a host name nor an IP address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` is not a host name or an IP address: {reason}")]
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
    /// Parses and normalises a host name or an IP address. An IPv6 address may be in brackets.
    ///
    /// # Errors
    ///
    /// Text that is neither a host name nor an IP address.
    pub fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        // `Host::parse` accepts an IPv6 address only in brackets. Outside of URLs, they are optional.
        let parsed = match host.parse() {
            Ok(address) => Ok(Host::Ipv6(address)),
            Err(_) => Host::parse(host),
        };
        let invalid = |reason: &str| AddressError::new(host, reason);
        match parsed.map_err(|error| invalid(&error.to_string()))? {
            Host::Domain(name) => {
                // The trailing dot is stripped after parsing, because it may be encoded as `%2e`.
                let name = name.strip_suffix('.').unwrap_or(&name);
                if name.split('.').any(str::is_empty) {
                    return Err(invalid("empty label"));
                }
                if name.contains('*') {
                    return Err(invalid("`*` is only allowed as `*.` in front of a domain"));
                }
                Ok(Self { host: Host::Domain(name.into()), port })
            }
            address => Ok(Self { host: address, port }),
        }
    }

    /// Returns the host name or IP address to resolve and dial, without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// Returns the IP address; `None` for a host name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// Returns whether the host is `localhost` or a subdomain of it (RFC 6761).
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            _ => false,
        }
    }

    /// Returns the port.
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

/// Origin of HTTP requests: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpOrigin {
    /// `true` for `https`, `false` for `http`.
    pub tls: bool,
    /// Host and port.
    pub address: HostPort,
}

impl HttpOrigin {
    /// Parses `https://HOST[:PORT]` or `http://HOST[:PORT]`, with an optional trailing `/`. Returns `None` for
    /// text of another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = url::Url::parse(text).ok()?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let is_bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let address = HostPort::new(url.host_str()?, url.port_or_known_default()?).ok()?;
        is_bare.then_some(Self { tls, address })
    }
}

/// Returns the origin of the URL of an HTTP request.
impl TryFrom<&http::Uri> for HttpOrigin {
    type Error = AddressError;

    fn try_from(uri: &http::Uri) -> Result<Self, AddressError> {
        let tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        // A URL with a user name or a password is rejected: its host is replaced by an empty, invalid one.
        let has_no_user =
            uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        let host = uri.host().filter(|_| has_no_user).unwrap_or_default();
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
    fn host_name_is_normalised_without_trailing_dot() {
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

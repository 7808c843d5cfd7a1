//! Accesses that a plugin asks for, and the grants that allow them.

use crate::normalized_host::{AddressError, HostPort, HttpOrigin};
use std::{fmt, path::PathBuf, sync::Arc};
use url::Url;

/// Access to a host or a file outside the sandbox, as a plugin requests it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Connection to a host and port, through the import `endpoint`.
    Connect(HostPort),
    /// HTTP request to an origin, with the path and query, through the import `wasi:http`.
    Http(HttpOrigin, String),
    /// Read access to a file, through the import `files`. Paths are compared as text.
    Read(PathBuf),
}

/// Grant: what a plugin may reach. `Display` shows the command-line flag that gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// Connections through the import `endpoint`.
    Connect(Hosts),
    /// HTTP requests through the import `wasi:http`, to one path of an origin and all paths below that path.
    Http {
        /// `true` for `https`, `false` for `http`.
        tls: bool,
        /// Hosts and port of the origin.
        hosts: Hosts,
        /// Topmost path; `/` grants all paths.
        path: String,
    },
    /// Read access to a file through the import `files`. The plugin must ask for exactly this path.
    Read(PathBuf),
    /// Environment variable of the host that the plugin receives.
    Env(String),
}

/// A host, or all subdomains of a domain, each with one port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hosts {
    /// A single host.
    One(HostPort),
    /// All subdomains of a domain, written as `*.example.com`. The domain itself is not included.
    Below(HostPort),
}

/// Syntax error in the text of a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid grant `{text}`: {reason}")]
pub struct GrantSyntaxError {
    text: String,
    reason: String,
}

impl Grant {
    /// Parses `HOST:PORT` or `*.DOMAIN:PORT`.
    ///
    /// # Errors
    ///
    /// Text of another form, an invalid host, or port 0.
    pub fn connect(text: &str) -> Result<Self, GrantSyntaxError> {
        let invalid = |reason: &str| syntax_error(text, reason);
        let expected =
            "expected HOST:PORT, e.g. `db.example.com:5432`, `*.example.com:443` or `[::1]:6379`";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid(expected))?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| invalid(expected))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(invalid("expected brackets around the IPv6 address, e.g. `[::1]:6379`"));
        }
        Hosts::new(host, port).map(Self::Connect).map_err(|error| invalid(&error.to_string()))
    }

    /// Parses `https://HOST[:PORT][/PATH]` or `http://HOST[:PORT][/PATH]`. The host may be `*.DOMAIN`.
    ///
    /// # Errors
    ///
    /// Text of another form, an invalid host, a user name or password, a query or fragment, or an ambiguous
    /// path.
    pub fn http(text: &str) -> Result<Self, GrantSyntaxError> {
        let invalid = |reason: &str| syntax_error(text, reason);
        let expected = "expected https://HOST[:PORT][/PATH] or http://HOST[:PORT][/PATH]";
        let url = Url::parse(text).map_err(|_| invalid(expected))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(invalid(expected)),
        };
        if url.has_authority() && (!url.username().is_empty() || url.password().is_some()) {
            return Err(invalid("expected no user name or password in the URL"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("expected a path without a query; a grant covers all queries"));
        }
        let host = url.host_str().ok_or_else(|| invalid(expected))?;
        let port = url.port_or_known_default().ok_or_else(|| invalid(expected))?;
        if !is_unambiguous(url.path()) {
            return Err(invalid(
                "expected a path without `//`, and without encoded dots, slashes and percent signs",
            ));
        }
        let hosts = Hosts::new(host, port).map_err(|error| invalid(&error.to_string()))?;
        Ok(Self::Http { tls, hosts, path: url.path().into() })
    }

    /// Returns a grant to read a file. The plugin must ask for exactly this path.
    ///
    /// # Errors
    ///
    /// An empty path.
    pub fn read(text: &str) -> Result<Self, GrantSyntaxError> {
        if text.is_empty() {
            return Err(syntax_error(text, "expected the path of a file"));
        }
        Ok(Self::Read(text.into()))
    }

    /// Returns a grant of an environment variable.
    ///
    /// # Errors
    ///
    /// An empty name, or one that contains `=` or NUL.
    pub fn env(text: &str) -> Result<Self, GrantSyntaxError> {
        if text.is_empty() || text.contains(['=', '\0']) {
            return Err(syntax_error(
                text,
                "expected the name of an environment variable, without a value",
            ));
        }
        Ok(Self::Env(text.into()))
    }

    /// Returns whether this grant allows the access.
    #[must_use]
    pub fn allows(&self, access: &Access) -> bool {
        match (self, access) {
            (Self::Connect(hosts), Access::Connect(address)) => hosts.contains(address),
            (Self::Http { tls, hosts, path }, Access::Http(origin, asked)) => {
                *tls == origin.tls && hosts.contains(&origin.address) && is_path_within(path, asked)
            }
            // Compared as text, because `Path` treats `a/./b` and `a/b` as equal.
            (Self::Read(path), Access::Read(asked)) => path.as_os_str() == asked.as_os_str(),
            _ => false,
        }
    }
}

fn syntax_error(text: &str, reason: &str) -> GrantSyntaxError {
    GrantSyntaxError { text: text.into(), reason: reason.into() }
}

impl Hosts {
    fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        match host.strip_prefix("*.") {
            Some(domain) => {
                let below = HostPort::new(domain, port)?;
                if below.address().is_some() {
                    return Err(AddressError::new(host, "an IP address has no subdomains"));
                }
                Ok(Self::Below(below))
            }
            None => HostPort::new(host, port).map(Self::One),
        }
    }

    fn contains(&self, address: &HostPort) -> bool {
        match self {
            Self::One(granted) => granted == address,
            Self::Below(domain) => {
                let (name, domain_name) = (address.host(), domain.host());
                domain.port() == address.port()
                    && address.address().is_none()
                    && name.strip_suffix(&domain_name).is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }
}

/// Returns whether the path of a request is the granted path or below it.
fn is_path_within(granted: &str, asked: &str) -> bool {
    if granted == "/" {
        return true;
    }
    let path = asked.split('?').next().unwrap_or_default();
    // Servers resolve ambiguous paths in different ways, so such a path could lead out of the granted one.
    is_unambiguous(path)
        && path
            .strip_prefix(granted)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || granted.ends_with('/'))
}

/// Returns whether all servers resolve the path in the same way: no dot segments, backslashes or empty
/// segments, plain or percent-encoded.
fn is_unambiguous(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    // `%25` is an encoded percent sign: servers that decode twice find another encoded character.
    !["..", "%2e", "%2f", "%5c", "%00", "%25", "\\", "//"]
        .iter()
        .any(|ambiguous| lower.contains(ambiguous))
        && !path.split('/').any(|part| part == ".")
}

impl Access {
    /// Describes the access as a verb and its object, e.g. "read `/etc/app.toml`". Omits the query of a URL.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Connect(address) => format!("connect to `{address}`"),
            Self::Http(origin, path) => format!("request `{origin}{}`", without_query(path)),
            Self::Read(path) => format!("read `{}`", display_path(path)),
        }
    }

    /// Returns the grant that allows this access. For an HTTP request, the grant covers all paths of the origin.
    #[must_use]
    pub fn grant(&self) -> Grant {
        match self {
            Self::Connect(address) => Grant::Connect(Hosts::One(address.clone())),
            Self::Http(origin, _) => Grant::Http {
                tls: origin.tls,
                hosts: Hosts::One(origin.address.clone()),
                path: "/".into(),
            },
            Self::Read(path) => Grant::Read(path.clone()),
        }
    }
}

/// Returns the path of a request without its query, which often contains a token.
fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// Maximum length of a path in messages, in characters before escaping.
const MAX_DISPLAYED_PATH_CHARS: usize = 256;

/// Returns a path for messages: on one line, escaped, and cut after [`MAX_DISPLAYED_PATH_CHARS`].
fn display_path(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    let cut = text.chars().take(MAX_DISPLAYED_PATH_CHARS);
    let mut shown: String = cut.flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_DISPLAYED_PATH_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => address.fmt(f),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

impl Grant {
    /// Returns the key under `grants` in a configuration file.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Http { .. } => "http",
            Self::Read(_) => "read",
            Self::Env(_) => "env",
        }
    }

    /// Describes the grant as its key and its object, e.g. "read /etc/app.toml".
    #[must_use]
    pub fn in_words(&self) -> String {
        let flag = self.to_string();
        let (_, object) = flag.split_once(' ').unwrap_or_default();
        format!("{} {object}", self.key())
    }
}

/// Shows the command-line flag that gives the grant.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(hosts) => write!(f, "--allow-connect {hosts}"),
            Self::Http { tls, hosts, path } => {
                let (scheme, path) =
                    (if *tls { "https" } else { "http" }, if path == "/" { "" } else { path });
                write!(f, "--allow-http {scheme}://{hosts}{path}")
            }
            Self::Read(path) => write!(f, "--allow-read {}", display_path(path)),
            Self::Env(name) => write!(f, "--allow-env {name}"),
        }
    }
}

/// Set of grants. The empty set, which is the default, allows nothing. Clones share the grants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants(Arc<[Grant]>);

impl Grants {
    /// Returns whether at least one of these grants allows the access.
    #[must_use]
    pub fn allow(&self, access: &Access) -> bool {
        self.0.iter().any(|grant| grant.allows(access))
    }

    /// Returns all grants.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }

    /// Returns the names of the granted environment variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|grant| match grant {
            Grant::Env(name) => Some(name.as_str()),
            Grant::Connect(_) | Grant::Http { .. } | Grant::Read(_) => None,
        })
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(host: &str, port: u16) -> Access {
        Access::Connect(HostPort::new(host, port).unwrap())
    }

    fn request(url: &str) -> Access {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let tls = scheme == "https";
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
        let address = HostPort::new(host, port.parse().unwrap()).unwrap();
        Access::Http(HttpOrigin { tls, address }, path.into())
    }

    /// A wildcard grant covers subdomains, but neither the domain itself nor names with the same suffix.
    #[test]
    fn wildcard_grant_covers_only_subdomains() {
        let grant = Grant::connect("*.example.com:443").unwrap();
        for (host, port, allowed) in [
            ("a.example.com", 443, true),
            ("A.B.Example.com.", 443, true),
            ("example.com", 443, false),
            ("evilexample.com", 443, false),
            ("a.example.com.evil.org", 443, false),
            ("a.example.com", 80, false),
            ("127.0.0.1", 443, false),
        ] {
            assert_eq!(grant.allows(&connect(host, port)), allowed, "{host}:{port}");
        }
        assert!(
            !grant.allows(&request("https://a.example.com/")),
            "a connection grant does not allow requests"
        );
    }

    /// A path grant covers the paths below it, and no encoding leads out of it.
    #[test]
    fn path_grant_covers_only_subpaths() {
        let grant = Grant::http("https://example.com/config/app").unwrap();
        for (path, allowed) in [
            ("/config/app", true),
            ("/config/app?x=/../..", true),
            ("/config/app/a", true),
            ("/config/apple", false),
            ("/config", false),
            ("/", false),
            ("", false),
            ("/config/app/../secret", false),
            ("/config/app/%2e%2e/secret", false),
            ("/config/app/..;/secret", false),
            ("/config/app/%2Fsecret", false),
            ("/config/app//secret", false),
            ("/config/app/..\\secret", false),
            ("/config/app/%252e%252e/secret", false),
            ("/config/app/..%c0%af../secret", false),
            ("/config/app/%09../secret", false),
            ("/config/app/a%20b", true),
        ] {
            assert_eq!(
                grant.allows(&request(&format!("https://example.com{path}"))),
                allowed,
                "{path}"
            );
        }
        assert!(!grant.allows(&request("https://example.com:444/config/app")));
        assert!(!grant.allows(&request("http://example.com:443/config/app")));
        let whole = Grant::http("https://example.com").unwrap();
        assert!(whole.allows(&request("https://example.com/a/../b")));
    }

    #[test]
    fn grant_is_displayed_as_its_flag() {
        for (grant, shown) in [
            (Grant::connect("Example.com.:1"), "--allow-connect example.com:1"),
            (Grant::connect("[::1]:1"), "--allow-connect [::1]:1"),
            (Grant::connect("0x7f.1:1"), "--allow-connect 127.0.0.1:1"),
            (Grant::http("https://example.com"), "--allow-http https://example.com:443"),
            (Grant::http("http://*.a.org/b"), "--allow-http http://*.a.org:80/b"),
            (Grant::read("a\nb"), "--allow-read a\\nb"),
            (Grant::env("HOME"), "--allow-env HOME"),
        ] {
            assert_eq!(grant.unwrap().to_string(), shown);
        }
    }

    #[test]
    fn invalid_grant_is_rejected_with_reason() {
        for (grant, reason) in [
            (Grant::connect("example.com"), "HOST:PORT"),
            (Grant::connect("example.com:0"), "HOST:PORT"),
            (Grant::connect("::1:80"), "expected brackets"),
            (Grant::connect("*.127.0.0.1:80"), "no subdomains"),
            (Grant::connect("*:80"), "is not a host name"),
            (Grant::connect("a.*.com:80"), "is not a host name"),
            (Grant::http("ftp://h"), "https://HOST"),
            (Grant::http("https://u:p@h/"), "no user name"),
            (Grant::http("https://h/?a"), "without a query"),
            (Grant::http("https://h/a%2fb"), "without encoded"),
            (Grant::read(""), "the path of a file"),
            (Grant::env("A=b"), "without a value"),
        ] {
            let error = grant.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}

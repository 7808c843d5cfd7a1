//! What can be asked for, and what can be granted.

use crate::{AddressError, HostPort, HttpOrigin};
use std::{fmt, path::PathBuf};
use url::Url;

/// Something outside of the sandbox that a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// A connection.
    Connect(HostPort),
    /// A request, to an origin and a path.
    Http(HttpOrigin, String),
    /// A file, by the very path.
    Read(PathBuf),
}

/// The leave to reach something. As text it is the flag that gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// Connections, for `endpoint`.
    Connect(Hosts),
    /// Requests, for `wasi:http`: to an origin, and to paths from this one on.
    Http {
        /// `https` rather than `http`.
        tls: bool,
        /// Where to.
        hosts: Hosts,
        /// This path, and those below it; all of them if it is `/`.
        path: String,
    },
    /// Reading a file, for `files`, by the very path that is asked for.
    Read(PathBuf),
    /// A variable in the plugin's environment.
    Env(String),
}

/// One host, or all below a domain, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hosts {
    /// This one.
    One(HostPort),
    /// `*.example.com`: those whose names end so, but not `example.com` itself.
    Below(HostPort),
}

/// This cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be granted: expected {expected}")]
pub struct GrantSyntaxError {
    text: String,
    expected: String,
}

impl Grant {
    /// From `HOST:PORT`; the host may be `*.` and a domain.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn connect(text: &str) -> Result<Self, GrantSyntaxError> {
        let wrong = |expected: &str| syntax(text, expected);
        let expected = "HOST:PORT, e.g. `db.example.com:5432`, `*.example.com:443` or `[::1]:6379`";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong(expected))?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong(expected))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(wrong("an IPv6 address in brackets, e.g. `[::1]:6379`"));
        }
        Hosts::new(host, port).map(Self::Connect).map_err(|error| wrong(&error.to_string()))
    }

    /// From `http://HOST[:PORT][/PATH]`, or with `https`; the host may be `*.` and a domain.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn http(text: &str) -> Result<Self, GrantSyntaxError> {
        let wrong = |expected: &str| syntax(text, expected);
        let expected = "https://HOST[:PORT][/PATH], or the same with `http`";
        let url = Url::parse(text).map_err(|_| wrong(expected))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(wrong(expected)),
        };
        if url.has_authority() && (!url.username().is_empty() || url.password().is_some()) {
            return Err(wrong("no user in front of the host"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("a path without a query: a query cannot be granted apart"));
        }
        let host = url.host_str().ok_or_else(|| wrong(expected))?;
        let port = url.port_or_known_default().ok_or_else(|| wrong(expected))?;
        if !is_plain(url.path()) {
            return Err(wrong("a path without encoded dots and slashes"));
        }
        let hosts = Hosts::new(host, port).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self::Http { tls, hosts, path: url.path().into() })
    }

    /// From a path, which must be the very text that the plugin asks for.
    ///
    /// # Errors
    ///
    /// When it is empty.
    pub fn read(text: &str) -> Result<Self, GrantSyntaxError> {
        if text.is_empty() {
            return Err(syntax(text, "the path of a file"));
        }
        Ok(Self::Read(text.into()))
    }

    /// From the name of a variable.
    ///
    /// # Errors
    ///
    /// When it cannot be one.
    pub fn env(text: &str) -> Result<Self, GrantSyntaxError> {
        if text.is_empty() || text.contains(['=', '\0']) {
            return Err(syntax(text, "the name of an environment variable, without a value"));
        }
        Ok(Self::Env(text.into()))
    }

    /// Whether this is a leave to do that.
    #[must_use]
    pub fn allows(&self, access: &Access) -> bool {
        match (self, access) {
            (Self::Connect(hosts), Access::Connect(address)) => hosts.contain(address),
            (Self::Http { tls, hosts, path }, Access::Http(origin, asked)) => {
                *tls == origin.tls && hosts.contain(&origin.address) && is_below(path, asked)
            }
            // Compared as text: `Path` takes `a/./b` for `a/b`.
            (Self::Read(path), Access::Read(asked)) => path.as_os_str() == asked.as_os_str(),
            _ => false,
        }
    }
}

fn syntax(text: &str, expected: &str) -> GrantSyntaxError {
    GrantSyntaxError { text: text.into(), expected: expected.into() }
}

impl Hosts {
    fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        match host.strip_prefix("*.") {
            Some(domain) => {
                let below = HostPort::new(domain, port)?;
                if below.address().is_some() {
                    return Err(AddressError::new(host, "there is nothing below an address"));
                }
                Ok(Self::Below(below))
            }
            None => HostPort::new(host, port).map(Self::One),
        }
    }

    fn contain(&self, address: &HostPort) -> bool {
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

/// Whether a request's path is the granted one, or below it.
fn is_below(granted: &str, asked: &str) -> bool {
    if granted == "/" {
        return true;
    }
    let path = asked.split('?').next().unwrap_or_default();
    // Servers differ in what they make of these, so that nobody knows where they lead.
    is_plain(path)
        && path
            .strip_prefix(granted)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || granted.ends_with('/'))
}

/// Without anything that may lead up or elsewhere: dots, doubled and encoded slashes.
fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    // `%25` is a percent sign, which may be the first of another encoding.
    !["..", "%2e", "%2f", "%5c", "%00", "%25", "\\", "//"].iter().any(|odd| lower.contains(odd))
        && !path.split('/').any(|part| part == ".")
}

impl Access {
    /// What is asked for, as a verb and its object.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Connect(address) => format!("connect to `{address}`"),
            Self::Http(origin, path) => format!("request `{origin}{}`", without_query(path)),
            Self::Read(path) => format!("read `{}`", shown(path)),
        }
    }

    /// The grant that would allow it.
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

/// A query often carries a token.
fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// A path on one line, however it is named, and not longer than anybody reads.
fn shown(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    let mut shown: String = text.chars().take(256).flat_map(char::escape_debug).collect();
    if text.chars().nth(256).is_some() {
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
    /// The key in `grants` under which it stands in a configuration file.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Http { .. } => "http",
            Self::Read(_) => "read",
            Self::Env(_) => "env",
        }
    }

    /// What it grants, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let flag = self.to_string();
        let (_, what) = flag.split_once(' ').unwrap_or_default();
        format!("{} {what}", self.key())
    }
}

/// As it is given to the program.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(hosts) => write!(f, "--allow-connect {hosts}"),
            Self::Http { tls, hosts, path } => {
                let (scheme, path) =
                    (if *tls { "https" } else { "http" }, if path == "/" { "" } else { path });
                write!(f, "--allow-http {scheme}://{hosts}{path}")
            }
            Self::Read(path) => write!(f, "--allow-read {}", shown(path)),
            Self::Env(name) => write!(f, "--allow-env {name}"),
        }
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

    #[test]
    fn a_domain_is_granted_with_all_below_it_and_not_what_only_ends_alike() {
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
        assert!(!grant.allows(&request("https://a.example.com/")), "bytes are not requests");
    }

    #[test]
    fn a_path_is_granted_with_all_below_it_and_no_way_leads_out_of_it() {
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
    fn a_grant_is_shown_as_the_flag_that_gives_it() {
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
    fn what_cannot_be_granted_is_refused_with_what_was_expected() {
        for (grant, expected) in [
            (Grant::connect("example.com"), "HOST:PORT"),
            (Grant::connect("example.com:0"), "HOST:PORT"),
            (Grant::connect("::1:80"), "in brackets"),
            (Grant::connect("*.127.0.0.1:80"), "nothing below an address"),
            (Grant::connect("*:80"), "is not a host name"),
            (Grant::connect("a.*.com:80"), "is not a host name"),
            (Grant::http("ftp://h"), "https://HOST"),
            (Grant::http("https://u:p@h/"), "no user"),
            (Grant::http("https://h/?a"), "without a query"),
            (Grant::http("https://h/a%2fb"), "without encoded"),
            (Grant::read(""), "the path of a file"),
            (Grant::env("A=b"), "without a value"),
        ] {
            let error = grant.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

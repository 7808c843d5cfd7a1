//! Fuzz target: parsing of hosts, ports and URLs, and the grants that they imply.
//!
//! The input has three lines. Each of the first two is a URL, a host, or the value of an `--allow-…`
//! flag. The third is a port.

use crate::memory_limit::with_memory_limit;
use reloader_policy::{Access, Grant, Grants, HostPort, Hosts, HttpOrigin, Permission, decide};
use serde_json::{Value, json};
use url::Url;

/// Fuzz target: checks the addresses, grants, flags and paths that one input contains.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let mut lines = text.split('\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let port = lines.next().and_then(|port| port.parse().ok()).unwrap_or(443);
    with_memory_limit((1 << 20) + 200 * input.len(), || {
        check_address(first, port);
        check_address(second, port);
        check_url_grant(first, second, port);
        check_flag(first, second);
        check_path(first, second);
    });
}

/// Checks that an address has one canonical form, which parses to the same address.
fn check_address(text: &str, port: u16) {
    let Ok(address) = HostPort::new(text, port) else { return };
    let host = address.host();
    assert_eq!(HostPort::new(&host, port).as_ref(), Ok(&address), "{text:?} is {host:?}");
    let shown = address.to_string();
    let (host, _) = shown.rsplit_once(':').expect("a port");
    assert_eq!(HostPort::new(host, port).as_ref(), Ok(&address), "{text:?} is shown as {shown:?}");
    assert!(!host.is_empty() && host.is_ascii() && !host.ends_with('.'), "{text:?} is {host:?}");
    assert!(!host.contains(['%', '/', '@', '?', '#', ' ']), "{text:?} is {host:?}");
    assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_control()));
    // A URL with this host leads to the same address.
    if let Some(reached) = parsed_address(&format!("http://{host}:{port}/")) {
        assert_eq!(reached, address, "{text:?}");
    }
}

/// Returns the address of a URL according to the WHATWG URL parser.
fn parsed_address(url: &str) -> Option<HostPort> {
    let url = Url::parse(url).ok()?;
    HostPort::new(url.host_str()?, url.port_or_known_default()?).ok()
}

/// Returns the grants that a setting with this schema implies.
fn implied_grants(annotation: Value, text: &str) -> Option<Grants> {
    let schema = json!({ "properties": { "setting": annotation } });
    let decision = decide(&schema, &json!({ "setting": text }), &Permission::default()).ok()?;
    for grant in decision.granted.iter() {
        // Port 0 is valid in a URL, but not in a flag.
        if let Some(parsed) = reparse(grant) {
            assert_eq!(parsed, *grant, "the displayed grant parses to another one");
        }
    }
    Some(decision.granted)
}

/// Parses the displayed form of a grant: the command-line flag that sets this grant.
fn reparse(grant: &Grant) -> Option<Grant> {
    let shown = grant.to_string();
    let (flag, text) = shown.split_once(' ')?;
    match flag {
        "--allow-connect" => Grant::connect(text).ok(),
        "--allow-http" => Grant::http(text).ok(),
        // The displayed path of a `read` grant is escaped and truncated, so it cannot be parsed back.
        _ => None,
    }
}

/// Checks that a URL grants its own host, and no subdomain, no parent domain, no host of a similar name, and no other
/// port or scheme.
fn check_url_grant(text: &str, other: &str, port: u16) {
    let annotation = json!({ "x-connect": { "http": 80, "https": 443, "redis": 6379 } });
    let Some(grants) = implied_grants(annotation, text) else { return };
    let url = Url::parse(text).expect("a granted URL");
    let host = url.host_str().expect("a granted URL");
    let granted_port = url.port_or_known_default().unwrap_or(6379);
    let (is_http, tls) = (url.scheme() != "redis", url.scheme() == "https");
    let allowed = |host: &str, port: u16| {
        let Ok(address) = HostPort::new(host, port) else { return false };
        let request = |tls| Access::Http(HttpOrigin { tls, address: address.clone() }, "/".into());
        let http = grants.allow(&request(tls));
        let connect = grants.allow(&Access::Connect(address.clone()));
        assert!(!grants.allow(&request(!tls)), "another scheme");
        assert!(!(connect && http), "one grant allows requests and connections");
        assert_eq!(
            connect || http,
            if is_http { http } else { connect },
            "the grant is of another kind than the URL"
        );
        connect || http
    };
    assert!(allowed(host, granted_port), "{text:?} does not grant its own host");
    assert!(!allowed(host, granted_port.wrapping_add(1)), "{text:?} grants another port");
    let address = HostPort::new(host, granted_port).expect("a granted URL");
    let name = address.host();
    // Only a host name has a parent domain. An IPv4 address without its first number can be another spelling
    // of the same address: `0.0.1` is `0.0.0.1`.
    let is_name = address.address().is_none();
    let parent = name.split_once('.').filter(|_| is_name).map(|(_, parent)| parent);
    for similar in [
        format!("evil{host}"),
        format!("evil.{host}"),
        format!("{host}.evil.org"),
        format!("{host}evil"),
        parent.unwrap_or_default().to_owned(),
    ] {
        assert!(!allowed(&similar, granted_port), "{text:?} grants {similar:?}");
    }
    // If the URL also grants `other`, then `other` is another spelling of the same address.
    if allowed(other, port) {
        assert_eq!(HostPort::new(other, port), Ok(address), "{text:?} grants {other:?}");
    }
}

/// Checks that the displayed form of a flag parses to the same grant, and that the grant allows
/// only requests to its own hosts and path.
fn check_flag(text: &str, other: &str) {
    let grants = [Grant::connect(text), Grant::http(text)];
    for grant in grants.into_iter().flatten() {
        assert_eq!(reparse(&grant).as_ref(), Some(&grant), "{text:?} is shown as {grant}");
        let Ok(url) = Url::parse(other) else { continue };
        // The host sends requests only for these schemes.
        let ("http" | "https") = url.scheme() else { continue };
        let Some(address) = parsed_address(other) else { continue };
        let origin = HttpOrigin { tls: url.scheme() == "https", address: address.clone() };
        let asked = Access::Http(origin, url.path().into());
        if let (true, Grant::Http { hosts, path, tls }) = (grant.allows(&asked), &grant) {
            assert_eq!(*tls, url.scheme() == "https", "{grant} allows {other:?}");
            assert!(url.path().starts_with(path.as_str()), "{grant} allows {other:?}");
            let is_covered = match hosts {
                Hosts::One(one) => *one == address,
                Hosts::Below(domain) => {
                    address.host().ends_with(&format!(".{}", domain.host()))
                        && address.port() == domain.port()
                }
            };
            assert!(is_covered, "{grant} allows {other:?}");
        }
    }
}

/// Checks that a path is granted by its exact text.
fn check_path(text: &str, other: &str) {
    let Some(grants) = implied_grants(json!({ "x-read": true }), text) else { return };
    assert!(grants.allow(&Access::Read(text.into())));
    assert_eq!(grants.allow(&Access::Read(other.into())), text == other);
}

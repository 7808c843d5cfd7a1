//! Hosts, ports and URLs as operators, plugins and servers write them, and what they grant.
//!
//! The input is three lines: a URL, a host or what stands behind a flag; another one; a port.

use reloader_policy::{Access, Grant, Grants, HostPort, Hosts, HttpOrigin, Permission, decide};
use crate::memory::bounded;
use serde_json::{Value, json};
use url::Url;

/// Compares them.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let mut lines = text.split('\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let port = lines.next().and_then(|port| port.parse().ok()).unwrap_or(443);
    bounded((1 << 20) + 200 * input.len(), || {
        address(first, port);
        address(second, port);
        granted(first, second, port);
        flag(first, second);
        path(first, second);
    });
}

/// One address has one spelling, which means the same when it is read again.
fn address(text: &str, port: u16) {
    let Ok(address) = HostPort::new(text, port) else { return };
    let host = address.host();
    assert_eq!(HostPort::new(&host, port).as_ref(), Ok(&address), "{text:?} is {host:?}");
    let shown = address.to_string();
    let (host, _) = shown.rsplit_once(':').expect("a port");
    assert_eq!(HostPort::new(host, port).as_ref(), Ok(&address), "{text:?} is shown as {shown:?}");
    assert!(!host.is_empty() && host.is_ascii() && !host.ends_with('.'), "{text:?} is {host:?}");
    assert!(!host.contains(['%', '/', '@', '?', '#', ' ']), "{text:?} is {host:?}");
    assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_control()));
    // Who makes a URL of it reaches the same.
    if let Some(reached) = reached(&format!("http://{host}:{port}/")) {
        assert_eq!(reached, address, "{text:?}");
    }
}

/// Where a request for this URL goes, by the parser that browsers have.
fn reached(url: &str) -> Option<HostPort> {
    let url = Url::parse(url).ok()?;
    HostPort::new(url.host_str()?, url.port_or_known_default()?).ok()
}

/// What settings with this schema grant.
fn implied(mark: Value, text: &str) -> Option<Grants> {
    let schema = json!({ "properties": { "it": mark } });
    let decision = decide(&schema, &json!({ "it": text }), &Permission::default()).ok()?;
    for grant in decision.granted.iter() {
        // Port 0 can stand in a URL, but not in a flag.
        if let Some(again) = read_again(grant) {
            assert_eq!(again, *grant, "it is not what is shown");
        }
    }
    Some(decision.granted)
}

/// A grant is shown as the flag that gives it.
fn read_again(grant: &Grant) -> Option<Grant> {
    let shown = grant.to_string();
    let (flag, text) = shown.split_once(' ')?;
    match flag {
        "--allow-connect" => Grant::connect(text).ok(),
        "--allow-http" => Grant::http(text).ok(),
        // A path is escaped, and cut.
        _ => None,
    }
}

/// What a URL grants: the host in it, and neither its neighbours nor anything that only looks alike.
fn granted(text: &str, other: &str, port: u16) {
    let mark = json!({ "x-connect": { "http": 80, "https": 443, "redis": 6379 } });
    let Some(grants) = implied(mark, text) else { return };
    let url = Url::parse(text).expect("it was granted");
    let host = url.host_str().expect("it was granted");
    let known = url.port_or_known_default().unwrap_or(6379);
    let (web, tls) = (url.scheme() != "redis", url.scheme() == "https");
    let allowed = |host: &str, port: u16| {
        let Ok(address) = HostPort::new(host, port) else { return false };
        let request = |tls| Access::Http(HttpOrigin { tls, address: address.clone() }, "/".into());
        let http = grants.allow(&request(tls));
        let connect = grants.allow(&Access::Connect(address.clone()));
        assert!(!grants.allow(&request(!tls)), "another scheme");
        assert!(!(connect && http), "requests and connections are different things");
        assert_eq!(connect || http, if web { http } else { connect }, "the wrong kind");
        connect || http
    };
    assert!(allowed(host, known), "{text:?} does not grant its own host");
    assert!(!allowed(host, known.wrapping_add(1)), "{text:?} grants another port");
    // An address may leave out zeroes; a name has no part that does not count.
    let address = HostPort::new(host, known).expect("it was granted");
    let one = address.host();
    let name = address.address().is_none();
    let parent = one.split_once('.').filter(|_| name).map(|(_, parent)| parent);
    for neighbour in [
        format!("evil{host}"),
        format!("evil.{host}"),
        format!("{host}.evil.org"),
        format!("{host}evil"),
        parent.unwrap_or_default().to_owned(),
    ] {
        assert!(!allowed(&neighbour, known), "{text:?} grants {neighbour:?}");
    }
    // Two spellings are the same place, or only one of them is granted.
    if allowed(other, port) {
        assert_eq!(HostPort::new(other, port), Ok(address), "{text:?} grants {other:?}");
    }
}

/// A flag that is shown again gives the same, and allows a request only where it leads.
fn flag(text: &str, other: &str) {
    let grants = [Grant::connect(text), Grant::http(text)];
    for grant in grants.into_iter().flatten() {
        assert_eq!(read_again(&grant).as_ref(), Some(&grant), "{text:?} is shown as {grant}");
        let Ok(url) = Url::parse(other) else { continue };
        // Nothing else becomes a request, and only these always have a path.
        let ("http" | "https") = url.scheme() else { continue };
        let Some(address) = reached(other) else { continue };
        let origin = HttpOrigin { tls: url.scheme() == "https", address: address.clone() };
        let asked = Access::Http(origin, url.path().into());
        if let (true, Grant::Http { hosts, path, tls }) = (grant.allows(&asked), &grant) {
            assert_eq!(*tls, url.scheme() == "https", "{grant} allows {other:?}");
            assert!(url.path().starts_with(path.as_str()), "{grant} allows {other:?}");
            let below = match hosts {
                Hosts::One(one) => *one == address,
                Hosts::Below(domain) => {
                    address.host().ends_with(&format!(".{}", domain.host()))
                        && address.port() == domain.port()
                }
            };
            assert!(below, "{grant} allows {other:?}");
        }
    }
}

/// A path is granted by its very text.
fn path(text: &str, other: &str) {
    let Some(grants) = implied(json!({ "x-read": true }), text) else { return };
    assert!(grants.allow(&Access::Read(text.into())));
    assert_eq!(grants.allow(&Access::Read(other.into())), text == other);
}

//! Hosts, ports and URLs as operators, plugins and servers write them, and what they grant.
//!
//! The input is three lines: a URL or a host, another host, a port.

use crate::{
    capability::{Grants, HostPort},
    memory::bounded,
};
use serde_json::json;
use std::net::IpAddr;
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

/// What a URL grants: the host in it, and neither its neighbours nor anything that only looks alike.
fn granted(text: &str, other: &str, port: u16) {
    let schema = json!({ "properties": {
        "url": { "x-connect": { "http": 80, "https": 443, "redis": 6379 } },
    }});
    let Ok(grants) = Grants::implied(&schema, &json!({ "url": text })) else { return };
    let url = Url::parse(text).expect("it was granted");
    let host = url.host_str().expect("it was granted");
    let known = url.port_or_known_default().unwrap_or(6379);
    let (web, tls) = (url.scheme() != "redis", url.scheme() == "https");
    let allowed = |host: &str, port: u16| {
        let connect = HostPort::new(host, port).is_ok_and(|it| grants.allows_connect(&it));
        let http = grants.allows_http(tls, host, port);
        assert!(!grants.allows_http(!tls, host, port), "another scheme");
        assert!(!(connect && http), "requests and connections are different things");
        assert_eq!(connect || http, if web { http } else { connect }, "the wrong kind");
        connect || http
    };
    assert!(allowed(host, known), "{text:?} does not grant its own host");
    assert!(!allowed(host, known.wrapping_add(1)), "{text:?} grants another port");
    // An address may leave out zeroes; a name has no part that does not count.
    let one = HostPort::new(host, known).expect("it was granted").host();
    let name = one.parse::<IpAddr>().is_err();
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
        let same = HostPort::new(other, port) == HostPort::new(host, known);
        assert!(same, "{text:?} grants {other:?}");
    }
}

/// A path is granted by its very text.
fn path(text: &str, other: &str) {
    let schema = json!({ "properties": { "path": { "x-read": true } } });
    let Ok(grants) = Grants::implied(&schema, &json!({ "path": text })) else { return };
    assert!(grants.allows_read(text));
    assert_eq!(grants.allows_read(other), text == other);
}

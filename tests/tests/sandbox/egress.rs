//! Attacks on egress. Only granted addresses are reachable, regardless of spelling and API.

use crate::{arguments, deed, fails, finish, start_deed, value_of};
use e2e::{Finished, TestHost, hostile};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Listener to which no guest may connect. Drop asserts that no connection has arrived.
struct ForbiddenListener(TcpListener);

impl ForbiddenListener {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

impl Drop for ForbiddenListener {
    /// A connection stays in the accept queue even if the client has sent no data.
    fn drop(&mut self) {
        self.0.set_nonblocking(true).unwrap();
        assert!(self.0.accept().is_err(), "unexpected connection");
    }
}

/// Without a grant, no API reaches an address, and the error names the flag that allows it.
#[test]
fn ungranted_address_is_unreachable() {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let to = format!("to=127.0.0.1:{}", listener.port());
    let flag = format!("`--allow-connect 127.0.0.1:{}` would allow it", listener.port());
    fails(&deed(&t, "connect", &[&to]), &flag);
    fails(&deed(&t, "tls", &[&to]), &flag);
    fails(&deed(&t, "socket", &[&to]), "denied: cannot open a TCP socket");
    fails(&deed(&t, "endless-upload", &[&to]), "would allow it");
    let url = format!("to=http://127.0.0.1:{}/", listener.port());
    let flag = format!("`--allow-http http://127.0.0.1:{}` would allow it", listener.port());
    fails(&deed(&t, "request", &[&url]), &flag);
}

/// A granted address is reachable through the host, but not through a WASI socket.
#[test]
fn granted_address_excludes_wasi_sockets() {
    let t = TestHost::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let granted = format!("address=tcp://127.0.0.1:{port}");
    let to = format!("to=127.0.0.1:{port}");
    assert_eq!(value_of(&deed(&t, "connect", &[&granted, &to])), "connected");
    fails(&deed(&t, "socket", &[&granted, &to]), "denied: cannot open a TCP socket");
}

#[test]
fn listen_datagram_and_lookup_are_denied() {
    let t = TestHost::new();
    fails(&deed(&t, "listen", &["to=127.0.0.1:0"]), "denied: cannot open a TCP socket");
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("to={}", server.local_addr().unwrap());
    fails(&deed(&t, "datagram", &[&to]), "denied: cannot open a UDP socket");
    server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(server.recv(&mut [0; 8]).is_err(), "a datagram has arrived");
    // The operator of a name server sees each query: a channel for data exfiltration.
    for name in ["localhost", "secret.example.com", "127.0.0.1"] {
        let run = deed(&t, "lookup", &[&format!("to={name}")]);
        assert!(value_of(&run).contains("access-denied"), "{run:?}");
        assert!(run.stderr.contains(&format!("cannot look up `{name}`")), "{run:?}");
    }
}

/// A grant does not cover other ports, schemes, subdomains, similar names or mapped addresses.
#[test]
fn similar_address_is_not_granted() {
    let t = TestHost::new();
    // (granted, requested)
    let connections = [
        ("tcp://127.0.0.1:PORT", "127.0.0.1:9"),
        ("tcp://127.0.0.1:9", "127.0.0.1:PORT"),
        ("tcp://127.0.0.2:PORT", "127.0.0.1:PORT"),
        ("tcp://example.com:PORT", "evilexample.com:PORT"),
        ("tcp://example.com:PORT", "example.com.evil.org:PORT"),
        ("tcp://example.com:PORT", "sub.example.com:PORT"),
        ("tcp://127.0.0.1:PORT", "localhost:PORT"),
        ("tcp://127.0.0.1:PORT", "::ffff:127.0.0.1:PORT"),
        ("tcp://127.0.0.1:PORT", "64:ff9b::127.0.0.1:PORT"),
        ("tcp://127.0.0.1:PORT", "2002:7f00:1:::PORT"),
        ("tcp://127.0.0.1:PORT", "169.254.169.254:80"),
        ("tcp://127.0.0.1:PORT", "fd00:ec2::254:80"),
        ("tcp://127.0.0.1:PORT", "100.64.0.1:80"),
        // An HTTP grant does not allow raw connections.
        ("http://127.0.0.1:PORT", "127.0.0.1:PORT"),
    ];
    let requests = [
        ("http://127.0.0.1:PORT", "http://127.0.0.1:9/"),
        ("http://127.0.0.1:PORT", "https://127.0.0.1:PORT/"),
        ("https://127.0.0.1:PORT", "http://127.0.0.1:PORT/"),
        ("http://127.0.0.1:PORT", "http://localhost:PORT/"),
        ("http://127.0.0.1:PORT", "http://[::ffff:127.0.0.1]:PORT/"),
        ("http://127.0.0.1:PORT", "http://user@127.0.0.1:PORT/"),
        ("http://127.0.0.1:PORT", "http://127.0.0.1:PORT@127.0.0.1:9/"),
        ("http://127.0.0.1:PORT", "http://169.254.169.254/latest/meta-data/"),
        ("http://example.com:PORT", "http://evilexample.com:PORT/"),
        // A grant for raw connections does not allow HTTP requests.
        ("tcp://127.0.0.1:PORT", "http://127.0.0.1:PORT/"),
    ];
    let listener = ForbiddenListener::new();
    let cases = connections.map(|(granted, to)| ("connect", granted, to));
    let cases = cases.into_iter().chain(requests.map(|(granted, to)| ("request", granted, to)));
    for (how, granted, to) in cases {
        let port = listener.port().to_string();
        let granted = format!("address={}", granted.replace("PORT", &port));
        let to = format!("to={}", to.replace("PORT", &port));
        let run = deed(&t, how, &[&granted, &to]);
        assert!(
            ["would allow it", "is not a host name", "denied"]
                .iter()
                .any(|why| run.stderr.contains(why)),
            "{granted} {to}: {run:?}"
        );
        assert_eq!(run.status, Some(1), "{granted} {to}: {run:?}");
    }
}

#[test]
fn wildcard_grants_only_subdomains() {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let granted = format!("*.example.com:{}", listener.port());
    for name in ["evilexample.com", "example.com", "a.example.com.evil.org", "example.com.", "a."] {
        let to = format!("to={name}:{}", listener.port());
        let more = ["--once", "--allow-connect", &granted];
        fails(&finish(&t, &arguments("connect", &[&to]), &more), "would allow it");
    }
}

#[test]
fn address_spellings_are_equivalent() {
    let t = TestHost::new();
    let server = hostile::http(|_, stream| hostile::respond(stream, "200 OK", "", b"hello"));
    let port = server.port().to_string();
    let spellings = ["0x7f000001", "2130706433", "0177.0.0.1", "127.1", "127.0.0.1."];
    for spelling in spellings {
        let to = format!("to={spelling}:{port}");
        let granted = format!("address=tcp://127.0.0.1:{port}");
        assert_eq!(value_of(&deed(&t, "connect", &[&granted, &to])), "connected", "{spelling}");
        let to = format!("to=http://{spelling}:{port}/");
        let granted = format!("address=http://127.0.0.1:{port}");
        assert_eq!(value_of(&deed(&t, "request", &[&granted, &to])), "200 hello", "{spelling}");
    }
    for spelling in ["localhost.", "LOCALHOST", "ｌocalhost"] {
        let to = format!("to={spelling}:{port}");
        let granted = format!("address=tcp://localhost:{port}");
        assert_eq!(value_of(&deed(&t, "connect", &[&granted, &to])), "connected", "{spelling}");
    }
}

#[test]
fn origin_spellings_share_connection_pool() {
    let t = TestHost::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let server = hostile::tcp(move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        for line in BufReader::new(stream.try_clone()?).lines() {
            // End of the request head.
            if line?.is_empty() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")?;
            }
        }
        Ok(())
    });
    let granted = format!("address={}", server.url("/"));
    let run = deed(&t, "spellings", &[&granted, &format!("to={}", server.port())]);
    assert_eq!(value_of(&run), "18", "{run:?}");
    // A second connection may be opened before the first one is back in the pool. Separate pools
    // for each spelling would open six or more.
    let connections = connections.load(Ordering::Relaxed);
    assert!((1..6).contains(&connections), "{connections} connections");
}

/// Repeated denials in one call are logged as one line and a count.
#[test]
fn repeated_denials_are_deduplicated() {
    let t = TestHost::new();
    let denials_in = |run: &Finished| {
        assert_eq!(value_of(run), "done");
        let lines =
            run.stderr.lines().filter(|line| line.contains("denial") || line.contains("denied"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = denials_in(&deed(&t, "repeated-denial", &["to=/etc/passwd"]));
    assert!(lines.len() == 2, "{lines:#?}");
    assert!(
        lines[0].contains("access denied") && lines[0].contains("no grant to read `/etc/passwd`"),
        "{lines:#?}"
    );
    assert!(lines[1].contains("denials in total") && lines[1].contains("count=1000"), "{lines:#?}");
    // Distinct denials: the first ones are logged, the others only counted.
    let lines = denials_in(&deed(&t, "distinct-denials", &["to=/etc/"]));
    assert!((10..20).contains(&lines.len()), "{lines:#?}");
    let of = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(of("access denied, further denials are only counted"), 1, "{lines:#?}");
    assert_eq!(of("other denials in total"), 1, "{lines:#?}");
    assert_eq!(of("count=984"), 1, "{lines:#?}");
}

/// A denial is logged even if the call does not return.
#[test]
fn denial_in_stalled_call_is_logged() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime", "--limit", "liveness=200ms"];
    let run = start_deed(&t, "denial-then-silence", &["when=next", "to=/etc/passwd"], &more);
    run.wait_for_log("no grant to read `/etc/passwd`");
    let more = ["--limit", "call-timeout=200ms"];
    let run = finish(
        &t,
        &arguments("denial-then-silence", &["to=/etc/passwd"]),
        &[&["--once"], &more[..]].concat(),
    );
    assert_eq!(run.stderr.matches("no grant to read `/etc/passwd`").count(), 1, "{run:?}");
}

#[test]
fn host_does_not_follow_redirects() {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let location = format!("location: http://127.0.0.1:{}/\r\n", listener.port());
    let server =
        hostile::http(move |_, stream| hostile::respond(stream, "302 Found", &location, b""));
    let granted = format!("address={}", server.url("/"));
    let to = format!("to={}", server.url("/"));
    assert_eq!(value_of(&deed(&t, "request", &[&granted, &to])), "302 ");
}

/// A guest cannot set headers that change the request's target or framing, nor inject header
/// fields.
#[test]
fn request_headers_cannot_be_spoofed() {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let url = format!("http://127.0.0.1:{}/", listener.port());
    let granted = format!("address={url}");
    let headers = [
        ("Host=evil.example", "Forbidden"),
        ("host=evil.example", "Forbidden"),
        ("transfer-encoding=chunked", "Forbidden"),
        ("connection=upgrade", "Forbidden"),
        ("upgrade=h2c", "Forbidden"),
        (r"x=a\r\nhost: evil.example", "InvalidSyntax"),
        (r"x=a\r\n\r\nGET / HTTP/1.1", "InvalidSyntax"),
        ("x y=a", "InvalidSyntax"),
        ("=a", "InvalidSyntax"),
    ];
    for (header, expected) in headers {
        fails(&deed(&t, "header", &[&granted, &format!("to={url} {header}")]), expected);
    }
}

#[test]
fn path_cannot_smuggle_request() {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let url = format!("http://127.0.0.1:{}/", listener.port());
    let granted = format!("address={url}");
    for path in [" HTTP/1.1\r\nx: y", "a b", "\r\n\r\nGET /", "\u{1}"] {
        let run = deed(&t, "request", &[&granted, &format!("to={url}{path}")]);
        fails(&run, "cannot be requested");
    }
}

//! Attacks on egress. Only granted addresses are reachable, regardless of spelling and API.

use crate::run_attack::{arguments, attack, fails, finish, start_attack, value_of};
use e2e::{Finished, TestHost, hostile};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Listener to which no guest may connect. Drop asserts that no connection has arrived.
pub(crate) struct ForbiddenListener(TcpListener);

impl ForbiddenListener {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

impl Drop for ForbiddenListener {
    /// Asserts that the accept queue is empty. It contains each connection, even if the client has sent no data.
    fn drop(&mut self) {
        self.0.set_nonblocking(true).unwrap();
        assert!(self.0.accept().is_err(), "unexpected connection");
    }
}

/// Performs an attack on a target without a grant, and asserts that it fails with this error. `PORT` is
/// replaced by the port of a listener that must not receive a connection.
fn assert_unreachable(attack_name: &str, target: &str, expected: &str) {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let port = listener.port().to_string();
    let to = format!("to={}", target.replace("PORT", &port));
    fails(&attack(&t, attack_name, &[&to]), &expected.replace("PORT", &port));
}

e2e::cases! {
    /// Without a grant, no API reaches an address, and the error names the flag that allows it.
    mod ungranted_address_is_unreachable: assert_unreachable {
        connection(
            "connect",
            "127.0.0.1:PORT",
            "`--allow-connect 127.0.0.1:PORT` would allow it",
        );
        tls_connection(
            "tls",
            "127.0.0.1:PORT",
            "`--allow-connect 127.0.0.1:PORT` would allow it",
        );
        wasi_socket("socket", "127.0.0.1:PORT", "denied: cannot open a TCP socket");
        upload("endless-upload", "127.0.0.1:PORT", "would allow it");
        http_request(
            "request",
            "http://127.0.0.1:PORT/",
            "`--allow-http http://127.0.0.1:PORT` would allow it",
        );
    }
}

/// A granted address is reachable through the host, but not through a WASI socket.
#[test]
fn granted_address_excludes_wasi_sockets() {
    let t = TestHost::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let granted = format!("address=tcp://127.0.0.1:{port}");
    let to = format!("to=127.0.0.1:{port}");
    assert_eq!(value_of(&attack(&t, "connect", &[&granted, &to])), "connected");
    fails(&attack(&t, "socket", &[&granted, &to]), "denied: cannot open a TCP socket");
}

#[test]
fn listening_is_denied() {
    let t = TestHost::new();
    fails(&attack(&t, "listen", &["to=127.0.0.1:0"]), "denied: cannot open a TCP socket");
}

#[test]
fn datagram_is_denied() {
    let t = TestHost::new();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("to={}", server.local_addr().unwrap());
    fails(&attack(&t, "datagram", &[&to]), "denied: cannot open a UDP socket");
    // Loopback delivery is synchronous: a datagram that was sent is in the receive buffer.
    server.set_nonblocking(true).unwrap();
    assert!(server.recv(&mut [0; 8]).is_err(), "a datagram has arrived");
}

fn assert_lookup_denied(name: &str) {
    let run = attack(&TestHost::new(), "lookup", &[&format!("to={name}")]);
    assert!(value_of(&run).contains("access-denied"), "{run:?}");
    assert!(run.stderr.contains(&format!("cannot look up `{name}`")), "{run:?}");
}

e2e::cases! {
    /// A guest cannot resolve names: the operator of a name server sees each query, which would be a
    /// channel for data exfiltration.
    mod lookup_is_denied: assert_lookup_denied {
        localhost("localhost");
        public_name("secret.example.com");
        ip_address("127.0.0.1");
    }
}

/// Performs an attack with a grant for another address, and asserts that it is denied. `PORT` is
/// replaced by the port of a listener that must not receive a connection.
fn assert_not_granted(attack_name: &str, granted: &str, target: &str) {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let port = listener.port().to_string();
    let granted = format!("address={}", granted.replace("PORT", &port));
    let to = format!("to={}", target.replace("PORT", &port));
    let run = attack(&t, attack_name, &[&granted, &to]);
    let expected = ["would allow it", "is not a host name", "denied"];
    assert!(expected.iter().any(|text| run.stderr.contains(text)), "{run:?}");
    assert_eq!(run.status, Some(1), "{run:?}");
}

fn assert_connection_not_granted(granted: &str, target: &str) {
    assert_not_granted("connect", granted, target);
}

e2e::cases! {
    /// A grant does not cover other ports, schemes, subdomains, similar names or mapped addresses.
    mod similar_address_is_not_granted: assert_connection_not_granted {
        lower_port("tcp://127.0.0.1:PORT", "127.0.0.1:9");
        higher_port("tcp://127.0.0.1:9", "127.0.0.1:PORT");
        other_loopback_address("tcp://127.0.0.2:PORT", "127.0.0.1:PORT");
        name_with_prefix("tcp://example.com:PORT", "evilexample.com:PORT");
        name_as_subdomain_of_other("tcp://example.com:PORT", "example.com.evil.org:PORT");
        subdomain("tcp://example.com:PORT", "sub.example.com:PORT");
        name_of_address("tcp://127.0.0.1:PORT", "localhost:PORT");
        ipv4_mapped_address("tcp://127.0.0.1:PORT", "::ffff:127.0.0.1:PORT");
        nat64_address("tcp://127.0.0.1:PORT", "64:ff9b::127.0.0.1:PORT");
        six_to_four_address("tcp://127.0.0.1:PORT", "2002:7f00:1:::PORT");
        ipv4_metadata_service("tcp://127.0.0.1:PORT", "169.254.169.254:80");
        ipv6_metadata_service("tcp://127.0.0.1:PORT", "fd00:ec2::254:80");
        shared_address_space("tcp://127.0.0.1:PORT", "100.64.0.1:80");
        raw_connection_with_http_grant("http://127.0.0.1:PORT", "127.0.0.1:PORT");
    }
}

fn assert_request_not_granted(granted: &str, url: &str) {
    assert_not_granted("request", granted, url);
}

e2e::cases! {
    mod similar_url_is_not_granted: assert_request_not_granted {
        other_port("http://127.0.0.1:PORT", "http://127.0.0.1:9/");
        https_instead_of_http("http://127.0.0.1:PORT", "https://127.0.0.1:PORT/");
        http_instead_of_https("https://127.0.0.1:PORT", "http://127.0.0.1:PORT/");
        name_of_address("http://127.0.0.1:PORT", "http://localhost:PORT/");
        ipv4_mapped_address("http://127.0.0.1:PORT", "http://[::ffff:127.0.0.1]:PORT/");
        user_name("http://127.0.0.1:PORT", "http://user@127.0.0.1:PORT/");
        granted_address_as_user_name(
            "http://127.0.0.1:PORT",
            "http://127.0.0.1:PORT@127.0.0.1:9/",
        );
        metadata_service("http://127.0.0.1:PORT", "http://169.254.169.254/latest/meta-data/");
        name_with_prefix("http://example.com:PORT", "http://evilexample.com:PORT/");
        request_with_raw_grant("tcp://127.0.0.1:PORT", "http://127.0.0.1:PORT/");
    }
}

fn assert_not_covered_by_wildcard(name: &str) {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let granted = format!("*.example.com:{}", listener.port());
    let to = format!("to={name}:{}", listener.port());
    let more = ["--once", "--allow-connect", &granted];
    fails(&finish(&t, &arguments("connect", &[&to]), &more), "would allow it");
}

e2e::cases! {
    mod wildcard_grants_only_subdomains: assert_not_covered_by_wildcard {
        name_with_prefix("evilexample.com");
        parent_domain("example.com");
        name_as_subdomain_of_other("a.example.com.evil.org");
        absolute_parent_domain("example.com.");
        first_label("a.");
    }
}

fn assert_reaches_loopback(spelling: &str) {
    let t = TestHost::new();
    let server = hostile::http(|_, stream| hostile::respond(stream, "200 OK", "", b"hello"));
    let port = server.port();
    let to = format!("to={spelling}:{port}");
    let granted = format!("address=tcp://127.0.0.1:{port}");
    assert_eq!(value_of(&attack(&t, "connect", &[&granted, &to])), "connected");
    let to = format!("to=http://{spelling}:{port}/");
    let granted = format!("address=http://127.0.0.1:{port}");
    assert_eq!(value_of(&attack(&t, "request", &[&granted, &to])), "200 hello");
}

e2e::cases! {
    mod address_spellings_are_equivalent: assert_reaches_loopback {
        hexadecimal("0x7f000001");
        decimal("2130706433");
        octal("0177.0.0.1");
        short("127.1");
        absolute("127.0.0.1.");
    }
}

fn assert_reaches_localhost(spelling: &str) {
    let t = TestHost::new();
    let server = hostile::http(|_, stream| hostile::respond(stream, "200 OK", "", b"hello"));
    let to = format!("to={spelling}:{}", server.port());
    let granted = format!("address=tcp://localhost:{}", server.port());
    assert_eq!(value_of(&attack(&t, "connect", &[&granted, &to])), "connected");
}

e2e::cases! {
    mod name_spellings_are_equivalent: assert_reaches_localhost {
        absolute("localhost.");
        upper_case("LOCALHOST");
        full_width_letter("ｌocalhost");
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
    let run = attack(&t, "spellings", &[&granted, &format!("to={}", server.port())]);
    assert_eq!(value_of(&run), "18", "{run:?}");
    // A second connection may be opened before the first one is back in the pool. Separate pools
    // for each spelling would open six or more.
    let connections = connections.load(Ordering::Relaxed);
    assert!((1..6).contains(&connections), "{connections} connections");
}

/// Returns the lines in the log of a run that are about denials.
fn denials_in(run: &Finished) -> Vec<String> {
    assert_eq!(value_of(run), "done");
    let lines =
        run.stderr.lines().filter(|line| line.contains("denial") || line.contains("denied"));
    lines.map(str::to_owned).collect()
}

/// Repeated denials in one call are logged as one line and a count.
#[test]
fn repeated_denials_are_deduplicated() {
    let t = TestHost::new();
    let lines = denials_in(&attack(&t, "repeated-denial", &["to=/etc/passwd"]));
    assert!(lines.len() == 2, "{lines:#?}");
    assert!(
        lines[0].contains("access denied") && lines[0].contains("no grant to read `/etc/passwd`"),
        "{lines:#?}"
    );
    assert!(
        lines[1].contains("total of repeated access denials") && lines[1].contains("count=1000"),
        "{lines:#?}"
    );
}

/// Of distinct denials, the first ones are logged and the others only counted.
#[test]
fn distinct_denials_are_counted() {
    let t = TestHost::new();
    let lines = denials_in(&attack(&t, "distinct-denials", &["to=/etc/"]));
    assert!((10..20).contains(&lines.len()), "{lines:#?}");
    let lines_with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        lines_with("access denied, further denials are logged only as a total"),
        1,
        "{lines:#?}"
    );
    assert_eq!(lines_with("further access denials, not logged individually"), 1, "{lines:#?}");
    assert_eq!(lines_with("count=984"), 1, "{lines:#?}");
}

/// A denial is logged even if the call does not return.
#[test]
fn denial_in_stalled_call_is_logged() {
    let t = TestHost::new();
    let more = ["--once", "--limit", "call-timeout=200ms"];
    let run = finish(&t, &arguments("denial-then-silence", &["to=/etc/passwd"]), &more);
    assert_eq!(run.stderr.matches("no grant to read `/etc/passwd`").count(), 1, "{run:?}");
}

/// A denial is logged even if a watch stays silent.
#[test]
fn denial_in_silent_watch_is_logged() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime", "--limit", "liveness=200ms"];
    let run = start_attack(&t, "denial-then-silence", &["when=next", "to=/etc/passwd"], &more);
    run.wait_for_log("no grant to read `/etc/passwd`");
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
    assert_eq!(value_of(&attack(&t, "request", &[&granted, &to])), "302 ");
}

fn assert_header_rejected(header: &str, expected: &str) {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let url = format!("http://127.0.0.1:{}/", listener.port());
    let granted = format!("address={url}");
    fails(&attack(&t, "header", &[&granted, &format!("to={url} {header}")]), expected);
}

e2e::cases! {
    /// A guest cannot set headers that change the request's target or framing, nor inject header
    /// fields.
    mod request_headers_cannot_be_spoofed: assert_header_rejected {
        host("Host=evil.example", "Forbidden");
        lower_case_host("host=evil.example", "Forbidden");
        transfer_encoding("transfer-encoding=chunked", "Forbidden");
        connection("connection=upgrade", "Forbidden");
        upgrade("upgrade=h2c", "Forbidden");
        line_break(r"x=a\r\nhost: evil.example", "InvalidSyntax");
        end_of_head(r"x=a\r\n\r\nGET / HTTP/1.1", "InvalidSyntax");
        space_in_name("x y=a", "InvalidSyntax");
        empty_name("=a", "InvalidSyntax");
    }
}

fn assert_path_rejected(path: &str) {
    let t = TestHost::new();
    let listener = ForbiddenListener::new();
    let url = format!("http://127.0.0.1:{}/", listener.port());
    let granted = format!("address={url}");
    let run = attack(&t, "request", &[&granted, &format!("to={url}{path}")]);
    fails(&run, "cannot be requested");
}

e2e::cases! {
    mod path_cannot_smuggle_request: assert_path_rejected {
        end_of_request_line(" HTTP/1.1\r\nx: y");
        space("a b");
        second_request("\r\n\r\nGET /");
        control_character("\u{1}");
    }
}

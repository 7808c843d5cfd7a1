//! Ways out: what no setting names cannot be reached, in whatever way it is spelt or asked for.

use crate::{arguments, deed, fails, finish, keep_at, said};
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

/// Where nobody may arrive.
struct Nobody(TcpListener);

impl Nobody {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

impl Drop for Nobody {
    /// Whoever has connected waits in the queue, whether or not it has sent anything.
    fn drop(&mut self) {
        self.0.set_nonblocking(true).unwrap();
        assert!(self.0.accept().is_err(), "somebody has connected");
    }
}

#[test]
fn without_a_grant_nothing_can_be_reached_in_any_way() {
    let t = TestHost::new();
    let nobody = Nobody::new();
    let to = format!("to=127.0.0.1:{}", nobody.port());
    let flag = format!("`--allow-connect 127.0.0.1:{}` would allow it", nobody.port());
    fails(&deed(&t, "connect", &[&to]), &flag);
    fails(&deed(&t, "tls", &[&to]), &flag);
    fails(&deed(&t, "socket", &[&to]), "refused to open a TCP socket");
    fails(&deed(&t, "upload", &[&to]), "would allow it");
    let url = format!("to=http://127.0.0.1:{}/", nobody.port());
    let flag = format!("`--allow-http http://127.0.0.1:{}` would allow it", nobody.port());
    fails(&deed(&t, "request", &[&url]), &flag);
}

#[test]
fn a_granted_address_can_be_reached_through_the_host_and_not_by_a_socket() {
    let t = TestHost::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let granted = format!("address=tcp://127.0.0.1:{port}");
    let to = format!("to=127.0.0.1:{port}");
    assert_eq!(said(&deed(&t, "connect", &[&granted, &to])), "connected");
    fails(&deed(&t, "socket", &[&granted, &to]), "refused to open a TCP socket");
}

#[test]
fn nothing_can_be_listened_to_sent_or_looked_up() {
    let t = TestHost::new();
    fails(&deed(&t, "listen", &["to=127.0.0.1:0"]), "refused to open a TCP socket");
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("to={}", server.local_addr().unwrap());
    fails(&deed(&t, "datagram", &[&to]), "refused to open a UDP socket");
    server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(server.recv(&mut [0; 8]).is_err(), "nothing has arrived");
    // Whoever serves a name sees each look-up of it: a way to tell what one knows.
    for name in ["localhost", "secret.example.com", "127.0.0.1"] {
        let run = deed(&t, "lookup", &[&format!("to={name}")]);
        assert!(said(&run).contains("access-denied"), "{run:?}");
        assert!(run.stderr.contains(&format!("refused to look up `{name}`")), "{run:?}");
    }
}

#[test]
fn a_neighbour_of_what_is_granted_is_not_granted() {
    let t = TestHost::new();
    // What is granted, and what is asked for.
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
        // A grant of requests is none of bytes.
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
        // A grant of bytes is none of requests that the host makes.
        ("tcp://127.0.0.1:PORT", "http://127.0.0.1:PORT/"),
    ];
    let nobody = Nobody::new();
    let cases = connections.map(|(granted, to)| ("connect", granted, to));
    let cases = cases.into_iter().chain(requests.map(|(granted, to)| ("request", granted, to)));
    for (how, granted, to) in cases {
        let port = nobody.port().to_string();
        let granted = format!("address={}", granted.replace("PORT", &port));
        let to = format!("to={}", to.replace("PORT", &port));
        let run = deed(&t, how, &[&granted, &to]);
        assert!(
            ["would allow it", "is not a host name", "refused"]
                .iter()
                .any(|why| run.stderr.contains(why)),
            "{granted} {to}: {run:?}"
        );
        assert_eq!(run.status, Some(1), "{granted} {to}: {run:?}");
    }
}

#[test]
fn a_wildcard_stands_for_what_is_below_a_domain_and_for_nothing_beside_it() {
    let t = TestHost::new();
    let nobody = Nobody::new();
    let granted = format!("*.example.com:{}", nobody.port());
    for name in ["evilexample.com", "example.com", "a.example.com.evil.org", "example.com.", "a."] {
        let to = format!("to={name}:{}", nobody.port());
        let more = ["--once", "--allow-connect", &granted];
        fails(&finish(&t, &arguments("connect", &[&to]), &more), "would allow it");
    }
}

#[test]
fn an_address_is_the_same_in_every_spelling() {
    let t = TestHost::new();
    let server = hostile::http(|_, stream| hostile::respond(stream, "200 OK", "", b"hello"));
    let port = server.port().to_string();
    let spellings = ["0x7f000001", "2130706433", "0177.0.0.1", "127.1", "127.0.0.1."];
    for spelling in spellings {
        let to = format!("to={spelling}:{port}");
        let granted = format!("address=tcp://127.0.0.1:{port}");
        assert_eq!(said(&deed(&t, "connect", &[&granted, &to])), "connected", "{spelling}");
        let to = format!("to=http://{spelling}:{port}/");
        let granted = format!("address=http://127.0.0.1:{port}");
        assert_eq!(said(&deed(&t, "request", &[&granted, &to])), "200 hello", "{spelling}");
    }
    for spelling in ["localhost.", "LOCALHOST", "ｌocalhost"] {
        let to = format!("to={spelling}:{port}");
        let granted = format!("address=tcp://localhost:{port}");
        assert_eq!(said(&deed(&t, "connect", &[&granted, &to])), "connected", "{spelling}");
    }
}

#[test]
fn many_spellings_of_an_origin_share_its_connections() {
    let t = TestHost::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let server = hostile::tcp(move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        for line in BufReader::new(stream.try_clone()?).lines() {
            // Where the head of a request ends.
            if line?.is_empty() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")?;
            }
        }
        Ok(())
    });
    let granted = format!("address={}", server.url("/"));
    let run = deed(&t, "spellings", &[&granted, &format!("to={}", server.port())]);
    assert_eq!(said(&run), "18", "{run:?}");
    // A connection may be made while another one is on its way back; one for each of six would be more.
    let connections = connections.load(Ordering::Relaxed);
    assert!((1..6).contains(&connections), "{connections} connections");
}

#[test]
fn what_is_refused_again_and_again_in_a_call_is_one_line_and_a_number() {
    let t = TestHost::new();
    let refused = |run: &Finished| {
        assert_eq!(said(run), "begged");
        let lines = run.stderr.lines().filter(|line| line.contains("refused"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = refused(&deed(&t, "beg", &["to=/etc/passwd"]));
    assert!(lines.len() == 2, "{lines:#?}");
    assert!(lines[0].contains("WARN refused to read `/etc/passwd`: not granted"), "{lines:#?}");
    assert!(lines[1].contains("`grants.read`): 1000 times"), "{lines:#?}");
    // Each another one: a few, and how many there were besides.
    let lines = refused(&deed(&t, "beg-around", &["to=/etc/"]));
    assert!((10..20).contains(&lines.len()), "{lines:#?}");
    let of = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(of("what else is refused from here on is only counted"), 1, "{lines:#?}");
    assert_eq!(of("refused besides: 984 times"), 1, "{lines:#?}");
}

#[test]
fn a_refusal_in_a_call_that_never_ends_is_told() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime", "--limit", "liveness=200ms"];
    let run = keep_at(&t, "sulk", &["when=next", "to=/etc/passwd"], &more);
    run.wait_for_log("WARN refused to read `/etc/passwd`: not granted");
    let more = ["--limit", "call-timeout=200ms"];
    let run =
        finish(&t, &arguments("sulk", &["to=/etc/passwd"]), &[&["--once"], &more[..]].concat());
    assert_eq!(run.stderr.matches("refused to read `/etc/passwd`").count(), 1, "{run:?}");
}

#[test]
fn a_redirect_is_not_followed_by_the_host() {
    let t = TestHost::new();
    let nobody = Nobody::new();
    let location = format!("location: http://127.0.0.1:{}/\r\n", nobody.port());
    let server =
        hostile::http(move |_, stream| hostile::respond(stream, "302 Found", &location, b""));
    let granted = format!("address={}", server.url("/"));
    let to = format!("to={}", server.url("/"));
    assert_eq!(said(&deed(&t, "request", &[&granted, &to])), "302 ");
}

#[test]
fn a_request_cannot_be_made_to_look_like_another_one() {
    let t = TestHost::new();
    let nobody = Nobody::new();
    let url = format!("http://127.0.0.1:{}/", nobody.port());
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
fn a_path_cannot_smuggle_a_second_request() {
    let t = TestHost::new();
    let nobody = Nobody::new();
    let url = format!("http://127.0.0.1:{}/", nobody.port());
    let granted = format!("address={url}");
    for path in [" HTTP/1.1\r\nx: y", "a b", "\r\n\r\nGET /", "\u{1}"] {
        let run = deed(&t, "request", &[&granted, &format!("to={url}{path}")]);
        fails(&run, "cannot be requested");
    }
}

//! Hostile servers against the bundled plugins `http` and `kvs`. Each attempt must fail in time
//! with a one-line error and bounded memory.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use e2e::{
    Authority, TestHost,
    hostile::{Http2, Server, Tls, bomb, drip, flood, hold, http, resp, respond, tcp},
};
use std::{
    fmt::Write as _,
    io::{self, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Pause between two writes of a slow-drip response.
const DRIP_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum duration of a run. The plugins time out after two seconds; the rest is for a loaded
/// machine.
const MAX_RUN_TIME: Duration = Duration::from_secs(10);

/// Reads a source once and asserts that it fails with a one-line error that contains one of the
/// texts.
fn fails(settings: &[String], plugin: &str, expected: &[&str]) {
    let t = TestHost::new();
    let mut arguments = vec!["run", "--once", "--log-level", "error", "--plugin", plugin];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let start = Instant::now();
    let run = t.finish(&arguments);
    let (status, complaint) = run.complaint();
    assert_eq!(status, Some(1), "{settings:?}: {complaint}");
    assert_eq!(complaint.lines().count(), 1, "{settings:?}: {complaint}");
    assert!(complaint.starts_with("error: source `"), "{settings:?}: {complaint}");
    assert!(complaint.len() < 5_000, "{settings:?}: {} bytes", complaint.len());
    assert!(
        expected.iter().any(|expected| complaint.contains(expected)),
        "{settings:?}: {expected:?} is not in {complaint:?}"
    );
    assert!(start.elapsed() < MAX_RUN_TIME, "{settings:?}: {:?}", start.elapsed());
}

fn http_fails(server: Server, expected: &[&str]) {
    let settings = [format!("url={}", server.url("/")), "timeout=1".into(), "deadline=2".into()];
    fails(&settings, "http", expected);
}

fn kvs_fails(server: Server, expected: &[&str]) {
    let url = format!("url=redis://127.0.0.1:{}", server.port());
    for subject in ["key=app", "hash=app", "prefix=app"] {
        fails(&[url.clone(), subject.into(), "timeout=1".into()], "kvs", expected);
    }
}

type Serve = fn(&mut TcpStream) -> io::Result<()>;

#[test]
fn hostile_redirect_is_rejected() {
    let elsewhere = tcp(hold);
    let there = format!("location: {}\r\n", elsewhere.url("/"));
    http_fails(http(move |_, stream| respond(stream, "302 Found", &there, b"")), &["redirect"]);
    for target in ["http://169.254.169.254/", "http://localhost:1/", "http://[::1]:1/"] {
        let there = format!("location: {target}\r\n");
        http_fails(
            http(move |_, stream| respond(stream, "301 Moved", &there, b"")),
            &["which is not granted"],
        );
    }
    let round: fn(&str, &mut TcpStream) -> io::Result<()> =
        |path, stream| respond(stream, "307 Again", &format!("location: {path}x\r\n"), b"");
    http_fails(http(round), &["redirects more than 5 times"]);
    for target in
        ["file:///etc/passwd", "gopher://127.0.0.1/", "http://", "//", "http://[", "\u{1}"]
    {
        let there = format!("location: {target}\r\n");
        http_fails(
            http(move |_, stream| respond(stream, "302 Found", &there, b"")),
            &["redirects", "invalid", "response"],
        );
    }
}

/// Slow-drip, endless and invalid response heads.
#[test]
fn hostile_response_head_is_rejected() {
    let cases: [(Serve, &[&str]); 9] = [
        (hold, &["in time"]),
        (|stream| drip(stream, b"H", DRIP_INTERVAL), &["in time", "HTTP"]),
        (
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
                drip(stream, b"x-a: b\r\n", DRIP_INTERVAL)
            },
            &["in time"],
        ),
        (
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
                flood(stream, b"x-a: b\r\n")
            },
            &["too large", "too many", "header"],
        ),
        (
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\nx-a: ")?;
                flood(stream, b"b")
            },
            &["too large", "header"],
        ),
        (
            |stream| flood(stream, b"HTTP/1.1 100 Continue\r\n\r\n"),
            &["more than 16 informational responses before the response"],
        ),
        (|stream| flood(stream, b"\0\x01\x02"), &["HTTP", "invalid"]),
        (|stream| stream.write_all(b"+PONG\r\n"), &["HTTP", "invalid"]),
        (|_| Ok(()), &["connection", "closed"]),
    ];
    for (serve, expected) in cases {
        let server = tcp(move |stream| {
            // Wait for the request: a client treats data on an idle connection as its end.
            stream.peek(&mut [0])?;
            serve(stream)
        });
        http_fails(server, expected);
    }
}

#[test]
fn header_flood_is_rejected() {
    for count in [101, 5_000] {
        let server = http(move |_, stream| {
            let headers = (0..count).fold(String::new(), |mut all, number| {
                let _ = write!(all, "x-{number}: {number}\r\n");
                all
            });
            respond(stream, "200 OK", &headers, b"x")
        });
        http_fails(server, &["too large", "too many", "header"]);
    }
}

/// Slow-drip, truncated and endless response bodies.
#[test]
fn hostile_response_body_is_rejected() {
    let cases: [(Serve, &[&str]); 9] = [
        (
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")?;
                drip(stream, b"x", DRIP_INTERVAL)
            },
            &["not complete in time (`deadline`)", "stalled (`timeout`)"],
        ),
        (
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")?;
                hold(stream)
            },
            &["the body stalled (`timeout`)"],
        ),
        (
            |stream| stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
            &["end of file", "connection", "bytes"],
        ),
        (
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                flood(stream, b"1000\r\n")
            },
            &["chunk", "longer than", "in time"],
        ),
        (
            |stream| {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
            },
            &["end of file", "connection", "body"],
        ),
        (
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n")
            },
            &["longer than", "length", "too large"],
        ),
        (
            |stream| {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
                )
            },
            &["content-length", "length"],
        ),
        (
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                flood(stream, b"x")
            },
            &["longer than 8388608 bytes (`max_bytes`)"],
        ),
        (
            |stream| {
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n")?;
                hold(stream)
            },
            &["101", "upgrade"],
        ),
    ];
    for (serve, expected) in cases {
        http_fails(http(move |_, stream| serve(stream)), expected);
    }
}

/// The host does not decompress the body, or stops at the limit: it never allocates a gigabyte.
#[test]
fn decompression_bomb_is_bounded() {
    let t = TestHost::new();
    let bomb = bomb(1 << 30);
    assert!(bomb.len() < 2 << 20, "{} bytes", bomb.len());
    let server =
        http(move |_, stream| respond(stream, "200 OK", "content-encoding: gzip\r\n", &bomb));
    let url = format!("url={}", server.url("/"));
    let mut run = t.run(&["run", "--plugin", "http", "--format", "raw", "--set", &url]);
    e2e::wait_until("the read to end", || {
        run.stderr().contains("longer than") || run.stderr().contains("limit") || run.has_line()
    });
    let peak = run.peak();
    assert!(peak < 250, "{peak} MiB: {}", run.stderr());
}

#[test]
fn broken_tls_handshake_is_rejected() {
    for way in Tls::ALL {
        let server = way.serve();
        let settings = [
            format!("url=https://127.0.0.1:{}/", server.port()),
            "timeout=1".into(),
            "deadline=2".into(),
        ];
        fails(&settings, "http", &["TLS", "tls", "in time", "handshake", "corrupt", "peer", "eof"]);
        let url = format!("url=rediss://127.0.0.1:{}", server.port());
        fails(
            &[url, "key=app".into(), "timeout=1".into()],
            "kvs",
            &["TLS", "no answer in 1s", "timed out", "in time", "limit"],
        );
    }
}

/// Floods of HTTP/2 frames that require an answer or processing time.
#[test]
fn http2_flood_is_rejected() {
    let ca = Authority::new("hostile");
    for flood in Http2::ALL {
        let t = TestHost::new();
        t.write("ca.pem", ca.pem());
        let server = flood.serve(&ca.server(&["localhost"]));
        let url = format!("url=https://localhost:{}/", server.port());
        let run = ["--plugin", "http", "--tls-ca", "ca.pem", "--set", &url];
        let short = ["--set", "timeout=1", "--set", "deadline=2"];
        let start = Instant::now();
        let once = ["run", "--once", "--log-level", "error"];
        let once = t.finish(&[&once[..], &run, &short].concat());
        let (status, complaint) = once.complaint();
        assert_eq!(status, Some(1), "{flood:?}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{flood:?}: {complaint}");
        let expected = ["in time", "stalled", "not complete", "excessive load", "http2 error"];
        assert!(expected.iter().any(|text| complaint.contains(text)), "{flood:?}: {complaint}");
        assert!(start.elapsed() < MAX_RUN_TIME, "{flood:?}: {:?}", start.elapsed());
        let host = t.run(&[&["run"], &run[..], &short].concat());
        host.wait_for_log("read failed");
        assert!(host.peak() < 250, "{flood:?}: {} MiB", host.peak());
    }
}

#[test]
fn invalid_redis_reply_is_rejected() {
    let cases: [(Serve, &[&str]); 16] = [
        (|stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"), &["not a Redis server"]),
        (|stream| stream.write_all(b"$x\r\n"), &["not a Redis server"]),
        (|stream| stream.write_all(b"$3\r\nabcde\r\n"), &["not a Redis server"]),
        (|stream| stream.write_all(b"$-7\r\n"), &["not a Redis server"]),
        (|stream| stream.write_all(b"$9999999999\r\n"), &["large", "long", "not a Redis server"]),
        (
            |stream| stream.write_all(b"*9223372036854775807\r\n"),
            &["incomplete reply", "large", "long", "not a Redis server"],
        ),
        (
            |stream| stream.write_all(b"%18446744073709551615\r\n"),
            &["large", "long", "not a Redis server"],
        ),
        (|stream| flood(stream, b"*1\r\n"), &["large", "long", "not a Redis server"]),
        (|stream| flood(stream, b"+"), &["large", "long", "not a Redis server"]),
        (
            |stream| {
                stream.write_all(b"*99999999\r\n")?;
                flood(stream, b"_\r\n")
            },
            &["large", "long", "limit", "not a Redis server"],
        ),
        (
            |stream| {
                stream.write_all(b"$30000000\r\n")?;
                flood(stream, b"x")
            },
            &["large", "long", "limit", "not a Redis server"],
        ),
        (|stream| drip(stream, b"+", DRIP_INTERVAL), &["incomplete reply", "no reply"]),
        (
            |stream| {
                stream.write_all(b"*3\r\n")?;
                drip(stream, b"$1\r\na\r\n", DRIP_INTERVAL)
            },
            &["unexpected reply", "incomplete reply"],
        ),
        (hold, &["no reply"]),
        (|stream| flood(stream, b">2\r\n+a\r\n+b\r\n"), &["no reply", "limit", "large"]),
        (|stream| stream.write_all(b"-ERR \x1b[2J no\r\n"), &[r"\u{1b}[2J no"]),
    ];
    for (serve, expected) in cases {
        kvs_fails(resp(move |_, stream| serve(stream)), expected);
    }
}

#[test]
fn wrong_redis_reply_type_is_rejected() {
    let cases: [&[u8]; 5] =
        [b":1\r\n", b"*1\r\n*0\r\n", b"*3\r\n+a\r\n+b\r\n+c\r\n", b"#t\r\n", b">1\r\n+x\r\n"];
    for answer in cases {
        for subject in ["hash=app", "prefix=app"] {
            let server = resp(move |_, stream| stream.write_all(answer));
            let url = format!("url=redis://127.0.0.1:{}", server.port());
            fails(
                &[url, subject.into(), "timeout=1".into()],
                "kvs",
                &["unexpected reply", "no reply"],
            );
        }
    }
}

/// Each reply of `SCAN` has the same non-zero cursor, so the iteration would never end.
#[test]
fn endless_scan_is_rejected() {
    let server = resp(|command, stream| match command {
        "SCAN" => stream.write_all(b"*2\r\n$1\r\n7\r\n*1\r\n$4\r\nappx\r\n"),
        _ => stream.write_all(b"*1\r\n$1\r\nx\r\n"),
    });
    let url = format!("url=redis://127.0.0.1:{}", server.port());
    let t = TestHost::new();
    let run = t.finish(&["run", "--once", "--plugin", "kvs", "--set", &url, "--set", "prefix=app"]);
    let (status, complaint) = run.complaint();
    assert_eq!(status, Some(1), "{complaint}");
    assert!(complaint.contains("the server repeats cursors"), "{complaint}");
}

#[test]
fn event_flood_is_bounded() {
    let cases: [(&str, Serve); 5] = [
        ("one endless line", |stream| flood(stream, b"x")),
        ("endless comments", |stream| flood(stream, b": comment\n\n")),
        ("events without data", |stream| flood(stream, b"event: a\n\n")),
        ("endless data", |stream| flood(stream, b"data: x\n")),
        ("endless events", |stream| flood(stream, b"data: x\n\n")),
    ];
    for (what, serve) in cases {
        let server = http(move |path, stream| {
            if path != "/events" {
                return respond(stream, "200 OK", "", b"value");
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")?;
            serve(stream)
        });
        let t = TestHost::new();
        let url = format!("url={}", server.url("/value"));
        let watch_url = format!("watch_url={}", server.url("/events"));
        let mut run = t.run(&[
            "run",
            "--plugin",
            "http",
            "--set",
            &url,
            "--set",
            &watch_url,
            "--set",
            "watch=sse",
            "--strategy",
            "hybrid",
            "--limit",
            "http-body=4MiB",
        ]);
        run.wait_for_value("value");
        run.wait_for_log("the response body is too large");
        let peak = run.peak();
        assert!(peak < 250, "{what}: {peak} MiB");
        assert_eq!(run.stop().code(), Some(0), "{what}: {}", run.stderr());
    }
}

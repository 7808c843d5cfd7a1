//! Hostile HTTP servers against the bundled plugin `http`. Each read fails in time with a one-line
//! error and bounded memory.

use crate::{
    egress::ForbiddenListener,
    read_from_hostile_server::{
        DRIP_INTERVAL, MAX_PEAK_MIB, Serve, assert_http_fails, assert_read_fails,
    },
};
use e2e::{
    Authority, TestHost,
    hostile::{Http2, Tls, drip, flood, gzip_bomb, hold, http, respond, tcp},
};
use std::{fmt::Write as _, io::Write, net::TcpStream};

fn assert_redirect_rejected(status: &'static str, target: &str, expected: &[&str]) {
    let location = format!("location: {target}\r\n");
    let server = http(move |_, stream| respond(stream, status, &location, b""));
    assert_http_fails(server, expected);
}

e2e::cases! {
    mod redirect_to_ungranted_url_is_rejected: assert_redirect_rejected {
        metadata_service("301 Moved", "http://169.254.169.254/", &["which is not granted"]);
        other_name("301 Moved", "http://localhost:1/", &["which is not granted"]);
        ipv6_address("301 Moved", "http://[::1]:1/", &["which is not granted"]);
    }
}

/// The target of the redirect is a running server on a port without a grant.
#[test]
fn redirect_to_other_server_is_rejected() {
    let listener = ForbiddenListener::new();
    let target = format!("http://127.0.0.1:{}/", listener.port());
    assert_redirect_rejected("302 Found", &target, &["redirect"]);
}

e2e::cases! {
    mod invalid_redirect_is_rejected: assert_redirect_rejected {
        file_url("302 Found", "file:///etc/passwd", &["redirects", "invalid", "response"]);
        gopher_url("302 Found", "gopher://127.0.0.1/", &["redirects", "invalid", "response"]);
        missing_host("302 Found", "http://", &["redirects", "invalid", "response"]);
        empty_authority("302 Found", "//", &["redirects", "invalid", "response"]);
        unclosed_ipv6_address("302 Found", "http://[", &["redirects", "invalid", "response"]);
        control_character("302 Found", "\u{1}", &["redirects", "invalid", "response"]);
    }
}

#[test]
fn endless_redirects_are_rejected() {
    let server = http(|path, stream: &mut TcpStream| {
        respond(stream, "307 Again", &format!("location: {path}x\r\n"), b"")
    });
    assert_http_fails(server, &["redirects more than 5 times"]);
}

fn assert_head_rejected(serve: Serve, expected: &[&str]) {
    let server = tcp(move |stream| {
        // Wait for the request: a client closes an idle connection on which data arrives.
        stream.peek(&mut [0])?;
        serve(stream)
    });
    assert_http_fails(server, expected);
}

e2e::cases! {
    mod hostile_response_head_is_rejected: assert_head_rejected {
        stalled(hold, &["in time"]);
        slow_status_line(|stream| drip(stream, b"H", DRIP_INTERVAL), &["in time", "HTTP"]);
        slow_headers(
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
                drip(stream, b"x-a: b\r\n", DRIP_INTERVAL)
            },
            &["in time"],
        );
        endless_headers(
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
                flood(stream, b"x-a: b\r\n")
            },
            &["too large", "too many", "header"],
        );
        endless_header_value(
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\nx-a: ")?;
                flood(stream, b"b")
            },
            &["too large", "header"],
        );
        endless_informational_responses(
            |stream| flood(stream, b"HTTP/1.1 100 Continue\r\n\r\n"),
            &["more than 16 informational responses before the final response"],
        );
        binary_data(|stream| flood(stream, b"\0\x01\x02"), &["HTTP", "invalid"]);
        redis_reply(|stream| stream.write_all(b"+PONG\r\n"), &["HTTP", "invalid"]);
        closed_connection(|_| Ok(()), &["connection", "closed"]);
    }
}

fn assert_header_count_rejected(count: u32) {
    let server = http(move |_, stream| {
        let headers = (0..count).fold(String::new(), |mut all, number| {
            let _ = write!(all, "x-{number}: {number}\r\n");
            all
        });
        respond(stream, "200 OK", &headers, b"x")
    });
    assert_http_fails(server, &["too large", "too many", "header"]);
}

e2e::cases! {
    mod header_flood_is_rejected: assert_header_count_rejected {
        one_above_limit(101);
        far_above_limit(5_000);
    }
}

fn assert_body_rejected(serve: Serve, expected: &[&str]) {
    assert_http_fails(http(move |_, stream| serve(stream)), expected);
}

e2e::cases! {
    mod hostile_response_body_is_rejected: assert_body_rejected {
        slow(
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")?;
                drip(stream, b"x", DRIP_INTERVAL)
            },
            &["not complete in time (`deadline`)", "stalled (`timeout`)"],
        );
        stalled(
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")?;
                hold(stream)
            },
            &["the body stalled (`timeout`)"],
        );
        truncated(
            |stream| stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
            &["end of file", "connection", "bytes"],
        );
        endless_chunk_sizes(
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                flood(stream, b"1000\r\n")
            },
            &["chunk", "longer than", "in time"],
        );
        missing_last_chunk(
            |stream| {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
                )
            },
            &["end of file", "connection", "body"],
        );
        maximum_content_length(
            |stream| {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n",
                )
            },
            &["longer than", "length", "too large"],
        );
        conflicting_content_lengths(
            |stream| {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
                )
            },
            &["content-length", "length"],
        );
        endless(
            |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                flood(stream, b"x")
            },
            &["longer than 8388608 bytes (`max_bytes`)"],
        );
        protocol_upgrade(
            |stream| {
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n")?;
                hold(stream)
            },
            &["101", "upgrade"],
        );
    }
}

/// A response body of 1 GiB, compressed to less than 2 MiB, does not raise the memory of the host above
/// [`MAX_PEAK_MIB`]: it is not decompressed, or only up to a limit.
#[test]
fn decompression_bomb_is_bounded() {
    let t = TestHost::new();
    let bomb = gzip_bomb(1 << 30);
    assert!(bomb.len() < 2 << 20, "{} bytes", bomb.len());
    let server =
        http(move |_, stream| respond(stream, "200 OK", "content-encoding: gzip\r\n", &bomb));
    let url = format!("url={}", server.url("/"));
    let mut run = t.run(&["run", "--plugin", "http", "--format", "raw", "--set", &url]);
    e2e::wait_until("the read to end", || {
        run.stderr().contains("longer than") || run.stderr().contains("limit") || run.has_line()
    });
    let peak = run.peak();
    assert!(peak < MAX_PEAK_MIB, "{peak} MiB: {}", run.stderr());
}

/// Asserts that a read of a URL and a read of a Redis key over TLS fail if the server breaks the
/// handshake in this way.
fn assert_handshake_rejected(handshake: Tls) {
    let server = handshake.serve();
    let url = format!("url=https://127.0.0.1:{}/", server.port());
    let expected = ["TLS", "tls", "in time", "handshake", "corrupt", "peer", "eof"];
    assert_read_fails("http", &[&url, "timeout=1", "deadline=2"], &expected);
    let url = format!("url=rediss://127.0.0.1:{}", server.port());
    let expected = ["TLS", "no answer in 1s", "timed out", "in time", "limit"];
    assert_read_fails("kvs", &[&url, "key=app", "timeout=1"], &expected);
}

e2e::cases! {
    mod broken_tls_handshake_is_rejected: assert_handshake_rejected {
        garbage(Tls::Garbage);
        stalled(Tls::Stalled);
        long_record(Tls::LongRecord);
        drip(Tls::Drip);
        empty_records(Tls::EmptyRecords);
        old_version(Tls::OldVersion);
        cut(Tls::Cut);
    }
}

fn assert_http2_flood_rejected(flood: Http2) {
    let ca = Authority::new("hostile");
    let t = TestHost::new();
    t.write("ca.pem", ca.pem());
    let server = flood.serve(&ca.server(&["localhost"]));
    let url = format!("url=https://localhost:{}/", server.port());
    let run = ["--plugin", "http", "--tls-ca", "ca.pem", "--set", &url];
    let short = ["--set", "timeout=1", "--set", "deadline=2"];
    let once = ["run", "--once", "--log-level", "error"];
    let once = t.finish(&[&once[..], &run, &short].concat());
    let (status, error) = once.status_and_error();
    assert_eq!(status, Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let expected = ["in time", "stalled", "not complete", "excessive load", "http2 error"];
    assert!(expected.iter().any(|text| error.contains(text)), "{error}");
    let host = t.run(&[&["run"], &run[..], &short].concat());
    host.wait_for_log("read failed");
    assert!(host.peak() < MAX_PEAK_MIB, "{} MiB", host.peak());
}

e2e::cases! {
    /// Floods of HTTP/2 frames make the read fail in time and with bounded memory.
    mod http2_flood_is_rejected: assert_http2_flood_rejected {
        pings(Http2::Pings);
        settings(Http2::Settings);
        resets(Http2::Resets);
        window_updates(Http2::WindowUpdates);
        priorities(Http2::Priorities);
        unknown_frames(Http2::Unknown);
        informational_responses(Http2::Interim);
        continuations(Http2::Continuations);
        empty_continuations(Http2::EmptyContinuations);
        empty_data(Http2::EmptyData);
        push_promises(Http2::Promises);
    }
}

fn assert_event_flood_bounded(serve: Serve) {
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
    let plugin = ["run", "--plugin", "http", "--strategy", "hybrid"];
    let settings = ["--set", &url, "--set", &watch_url, "--set", "watch=sse"];
    let mut run = t.run(&[&plugin[..], &settings, &["--limit", "http-body=4MiB"]].concat());
    run.wait_for_value("value");
    run.wait_for_log("the response body is too large");
    let peak = run.peak();
    assert!(peak < MAX_PEAK_MIB, "{peak} MiB");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

e2e::cases! {
    /// The size limit of a body ends an event stream, and memory stays bounded.
    mod event_flood_is_bounded: assert_event_flood_bounded {
        one_endless_line(|stream| flood(stream, b"x"));
        endless_comments(|stream| flood(stream, b": comment\n\n"));
        events_without_data(|stream| flood(stream, b"event: a\n\n"));
        endless_data(|stream| flood(stream, b"data: x\n"));
        endless_events(|stream| flood(stream, b"data: x\n\n"));
    }
}

//! Hostile Redis servers against the bundled plugin `kvs`. Each read fails in time with a one-line
//! error.

use crate::read_from_hostile_server::{DRIP_INTERVAL, Serve, assert_kvs_fails, assert_read_fails};
use e2e::{
    TestHost,
    hostile::{drip, flood, hold, resp},
};
use std::io::Write;

fn assert_reply_rejected(serve: Serve, expected: &[&str]) {
    assert_kvs_fails(resp(move |_, stream| serve(stream)), expected);
}

e2e::cases! {
    mod invalid_reply_is_rejected: assert_reply_rejected {
        http_response(
            |stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            &["not a Redis server"],
        );
        length_without_number(|stream| stream.write_all(b"$x\r\n"), &["not a Redis server"]);
        string_longer_than_length(
            |stream| stream.write_all(b"$3\r\nabcde\r\n"),
            &["not a Redis server"],
        );
        negative_length(|stream| stream.write_all(b"$-7\r\n"), &["not a Redis server"]);
        huge_string_length(
            |stream| stream.write_all(b"$9999999999\r\n"),
            &["large", "long", "not a Redis server"],
        );
        huge_array_length(
            |stream| stream.write_all(b"*9223372036854775807\r\n"),
            &["incomplete reply", "large", "long", "not a Redis server"],
        );
        huge_map_length(
            |stream| stream.write_all(b"%18446744073709551615\r\n"),
            &["large", "long", "not a Redis server"],
        );
        endless_nesting(
            |stream| flood(stream, b"*1\r\n"),
            &["large", "long", "not a Redis server"],
        );
        endless_line(|stream| flood(stream, b"+"), &["large", "long", "not a Redis server"]);
        endless_array(
            |stream| {
                stream.write_all(b"*99999999\r\n")?;
                flood(stream, b"_\r\n")
            },
            &["large", "long", "limit", "not a Redis server"],
        );
        long_string(
            |stream| {
                stream.write_all(b"$30000000\r\n")?;
                flood(stream, b"x")
            },
            &["large", "long", "limit", "not a Redis server"],
        );
        slow_line(|stream| drip(stream, b"+", DRIP_INTERVAL), &["incomplete reply", "no reply"]);
        slow_array(
            |stream| {
                stream.write_all(b"*3\r\n")?;
                drip(stream, b"$1\r\na\r\n", DRIP_INTERVAL)
            },
            &["unexpected reply", "incomplete reply"],
        );
        stalled(hold, &["no reply"]);
        endless_push_messages(
            |stream| flood(stream, b">2\r\n+a\r\n+b\r\n"),
            &["no reply", "limit", "large"],
        );
        control_characters(
            |stream| stream.write_all(b"-ERR \x1b[2J no\r\n"),
            &[r"\u{1b}[2J no"],
        );
    }
}

/// Asserts that a read of a hash and a read of a prefix fail with this reply.
fn assert_reply_type_rejected(reply: &'static [u8]) {
    for subject in ["hash=app", "prefix=app"] {
        let server = resp(move |_, stream| stream.write_all(reply));
        let url = format!("url=redis://127.0.0.1:{}", server.port());
        let expected = ["unexpected reply", "no reply"];
        assert_read_fails("kvs", &[&url, subject, "timeout=1"], &expected);
    }
}

e2e::cases! {
    mod wrong_reply_type_is_rejected: assert_reply_type_rejected {
        number(b":1\r\n");
        nested_array(b"*1\r\n*0\r\n");
        odd_array(b"*3\r\n+a\r\n+b\r\n+c\r\n");
        boolean(b"#t\r\n");
        push_message(b">1\r\n+x\r\n");
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
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("the server repeats cursors"), "{error}");
}

//! Webhook receivers that misbehave: the delivery fails with a message that names the exceeded limit, and other sinks
//! deliver.

use crate::config_text_helpers::{source, to_file};
use e2e::{
    TestHost,
    hostile::{Server, drip, flood, http},
};
use std::{io::Write, time::Duration};

const EARLY_HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";

fn assert_receiver_is_limited(server: Server, error: &str) {
    let t = TestHost::new();
    t.write("app.in", "one");
    t.write("other.in", "1");
    let hook = format!(
        "[[source.sink]]\ntype = \"webhook\"\nurl = \"{}\"\ntimeout = \"2s\"\n",
        server.url("/")
    );
    t.write("reloader.toml", source("app", &hook) + &source("other", &to_file("other.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log(error);
    for value in ["2", "3", "4"] {
        t.replace("other.in", value);
        t.wait_for_file("other.out", value);
    }
    assert!(!host.stderr().contains("panicked"), "{}", host.stderr());
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn endless_informational_responses_are_limited() {
    let server = http(|_, stream| flood(stream, EARLY_HINTS));
    assert_receiver_is_limited(
        server,
        "more than 16 informational responses before the final response",
    );
}

#[test]
fn slow_informational_responses_are_limited() {
    let server = http(|_, stream| drip(stream, EARLY_HINTS, Duration::from_millis(10)));
    assert_receiver_is_limited(
        server,
        "more than 16 informational responses before the final response",
    );
}

#[test]
fn endless_head_is_limited() {
    let server = http(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        flood(stream, &[b'x'; 4096])
    });
    assert_receiver_is_limited(server, "invalid response head: too large (at most 65536 bytes)");
}

#[test]
fn too_many_header_fields_are_rejected() {
    let server = http(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        for _ in 0..200 {
            stream.write_all(b"x: y\r\n")?;
        }
        stream.write_all(b"\r\n")
    });
    assert_receiver_is_limited(server, "too many header fields (at most 100)");
}

#[test]
fn dripped_head_is_limited_by_the_timeout() {
    let server = http(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        drip(stream, b"x", Duration::from_millis(10))
    });
    assert_receiver_is_limited(server, "timed out after 2s (`timeout`)");
}

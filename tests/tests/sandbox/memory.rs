//! Attacks on the memory of the guest and of the host.

use crate::run_attack::{attack, attack_with_limit, fails, text, value_of};
use e2e::{Nginx, Redis, TestHost, WAIT_TIMEOUT, hostile, wait_until};
use reloader_host::{PluginHost, Strategy, metrics::Counters};
use std::{fs, io::Write, sync::Arc};
use tokio::time::timeout;

fn assert_limit_named(attack_name: &str, settings: &[&str], limit: &str) {
    let t = TestHost::new();
    t.write("value", "x");
    fails(&attack(&t, attack_name, settings), limit);
}

e2e::cases! {
    /// Each attack fails with an error that names the exceeded limit.
    mod exceeded_limit_is_named: assert_limit_named {
        memory("memory-growth", &[], "limit `memory` is 24MiB");
        call_data("oversized-value", &[], "limit `call-data` is 16MiB");
        value("max-size-values", &[], "limit `value` is 8MiB");
        cursor("oversized-cursor", &[], "cursor has 12582912 bytes; the maximum is 65536");
        media_type("oversized-media-type", &[], "media type has 12582912 bytes");
        pollables("pollable-exhaustion", &[], "limit `handles` is 256");
        watches("watch-exhaustion", &["granted=value", "to=value"], "limit `handles` is 256");
        random("oversized-random", &[], "limit `random` is 64KiB");
        headers("header-flood", &[], "limit `http-head` is 64KiB");
        header("oversized-header", &[], "limit `http-head` is 64KiB");
    }
}

#[test]
fn connection_limit_is_named() {
    let server = hostile::tcp(hostile::hold);
    let to = format!("to=127.0.0.1:{}", server.port());
    let address = format!("address=tcp://127.0.0.1:{}", server.port());
    assert_limit_named("connection-exhaustion", &[&address, &to], "limit `connections` is 32");
}

fn assert_text_guest_fails(guest: &str, limit: &str) {
    fails(&text(&TestHost::new(), guest, &[]), limit);
}

e2e::cases! {
    mod text_guest_above_limit_fails: assert_text_guest_fails {
        table_growth("table-growth", "limit `table-elements` is 100000");
        initial_memory("oversized-initial-memory", "limit `memory` is 24MiB");
        initial_table("oversized-initial-table", "limit `table-elements` is 100000");
        call_data("many-fields", "limit `call-data` is 16MiB");
        list_length("oversized-list", "the plugin");
        data_segment("data-out-of-bounds", "the plugin");
    }
}

/// Starts a server that sends a body without a `content-length`.
fn server_without_content_length(body: &str) -> hostile::Server {
    let response = format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes();
    hostile::http(move |_, stream| stream.write_all(&response))
}

/// Returns a value of the maximum size.
fn largest_value() -> String {
    "x".repeat(8 << 20)
}

/// The default memory limit is sufficient for the largest allowed value.
#[test]
fn largest_file_fits_default_memory() {
    let t = TestHost::new();
    t.write("value", largest_value());
    let run = t.finish(&["run", "--once", "--plugin", "file", "--set", "path=value"]);
    assert!(value_of(&run) == largest_value(), "{}", run.stderr);
}

#[test]
fn largest_http_body_fits_default_memory() {
    let t = TestHost::new();
    let server = server_without_content_length(&largest_value());
    let url = format!("url={}", server.url("/"));
    let run = t.finish(&["run", "--once", "--plugin", "http", "--set", &url]);
    assert!(value_of(&run) == largest_value(), "{}", run.stderr);
}

/// Values of the maximum size can change repeatedly under the strategy `hybrid` and the default memory
/// limit, although the reader and the watcher share the limit and guest memory never shrinks.
#[tokio::test(flavor = "multi_thread")]
async fn largest_value_changes_under_hybrid_strategy() {
    let Some(redis) = Redis::start() else { return };
    let Some(nginx) = Nginx::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("value");
    let set = |value: &str| {
        fs::write(directory.path().join("new"), value).unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        redis.set_long("app", value);
        nginx.put("app.txt", value);
        nginx.publish("changed");
    };
    let value = |byte: char| String::from(byte).repeat(8 << 20);
    set(&value('a'));
    let (url, events) = (nginx.url("/app.txt"), nginx.url("/events"));
    let server = redis.url().trim_start_matches("url=").to_owned();
    let (path, app, sse) = (path.display().to_string(), "app".to_owned(), "sse".to_owned());
    let runtime = PluginHost::new().unwrap();
    let mut all = Vec::new();
    for (plugin, settings) in [
        ("file", vec![("path", path)]),
        ("kvs", vec![("url", server), ("key", app)]),
        ("http", vec![("url", url), ("watch_url", events), ("watch", sse)]),
    ] {
        let mut source = runtime.load(plugin).await.unwrap().source(plugin);
        for (name, value) in settings {
            source = source.set(name, value);
        }
        let counters = Arc::new(Counters::default());
        let source = source.counters(Arc::clone(&counters)).strategy(Strategy::Hybrid);
        let source = source.start().unwrap();
        all.push((source.subscribe(), source, counters));
    }
    for byte in ['a', 'b', 'c', 'd'] {
        for (values, source, counters) in &mut all {
            let plugin = source.name().clone();
            let next = timeout(WAIT_TIMEOUT, values.next()).await;
            let next = next.unwrap_or_else(|_| panic!("{plugin}: {:?}", values.state()));
            assert!(next.unwrap().content == value(byte).as_bytes(), "{plugin}");
            let before = values.state().last_success_at;
            source.reload();
            wait_until("another successful read", || {
                let counts = counters.read();
                let failures = counts.read_failures.into_iter().chain(counts.watch_failures);
                assert_eq!(failures.map(|(_, count)| count).sum::<u64>(), 0, "{plugin} {byte}");
                values.state().last_success_at > before
            });
        }
        set(&value(char::from_u32(byte as u32 + 1).unwrap()));
    }
}

/// The plugin allocates memory for the received body, not for `max_bytes`, so this setting may be higher
/// than the memory limit allows.
#[test]
fn max_bytes_may_exceed_memory_limit() {
    let t = TestHost::new();
    let body = "x".repeat(5 << 20);
    let url = format!("url=http://127.0.0.1:{}/", server_without_content_length(&body).port());
    let arguments = ["run", "--once", "--plugin", "http", "--set", &url, "--set"];
    let run =
        t.finish(&[&arguments[..], &["max_bytes=16777216", "--limit", "memory=20MiB"]].concat());
    assert!(value_of(&run) == body, "{}", run.stderr);
}

fn assert_lower_limit_named(limit: &str, attack_name: &str, expected: &str) {
    fails(&attack_with_limit(&TestHost::new(), limit, attack_name, &[]), expected);
}

e2e::cases! {
    mod lower_limit_is_enforced: assert_lower_limit_named {
        memory("memory=8MiB", "memory-growth", "limit `memory` is 8MiB");
        value("value=1MiB", "max-size-values", "limit `value` is 1MiB");
        handles("handles=10", "pollable-exhaustion", "limit `handles` is 10");
        random("random=1KiB", "oversized-random", "limit `random` is 1KiB");
    }
}

#[test]
fn higher_limit_accepts_larger_value() {
    let run = attack_with_limit(&TestHost::new(), "value=16MiB", "max-size-values", &[]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
}

#[test]
fn declared_memory_maximum_is_enforced() {
    let t = TestHost::new();
    assert_eq!(value_of(&text(&t, "grow-past-maximum", &[])), "x");
}

#[test]
fn oversized_request_part_is_rejected() {
    let t = TestHost::new();
    let run = attack(&t, "oversized-request-parts", &[]);
    assert_eq!(value_of(&run), "0", "all parts are rejected");
    for (what, most) in [("method", 64), ("scheme", 64), ("host", 16384), ("path", 16384)] {
        let expected =
            format!("reason=\"HTTP request: the {what} has 102400 bytes; the maximum is {most}\"");
        let denials = run.stderr.lines().filter(|line| line.contains("WARN access denied"));
        let count = denials.filter(|line| line.contains(&expected)).count();
        assert_eq!(count, 1, "{expected} in {}", run.stderr);
    }
}

fn assert_short_error(attack_name: &str, settings: &[&str]) {
    let run = attack(&TestHost::new(), attack_name, settings);
    fails(&run, "xxx");
    assert!(run.stderr.len() < 15_000, "{} bytes", run.stderr.len());
}

e2e::cases! {
    mod error_message_length_is_bounded: assert_short_error {
        failure("oversized-failure", &[]);
        panic("oversized-panic", &[]);
        path("oversized-path", &[]);
        url("oversized-url", &["address=http://127.0.0.1:9/", "to=http://127.0.0.1:9/"]);
    }
}

#[test]
fn socket_creation_is_denied() {
    let t = TestHost::new();
    // The host creates none of the sockets, because each would occupy one of its file descriptors.
    let sockets = value_of(&attack(&t, "socket-exhaustion", &[]));
    assert!(sockets.starts_with("0: ") && sockets.contains("access-denied"), "{sockets}");
}

#[test]
fn failed_start_is_reported() {
    let t = TestHost::new();
    fails(&text(&t, "start-trap", &[]), "the plugin aborted (in `open`)");
    fails(&text(&t, "realloc-out-of-bounds", &[]), "(in `open`)");
}

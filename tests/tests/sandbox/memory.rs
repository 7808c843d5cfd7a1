//! Ways to take memory: one's own, and the host's.

use crate::{deed, fails, limited, said, text};
use e2e::{Nginx, PATIENCE, Redis, TestHost, hostile, wait_until};
use reloader_host::{PluginHost, Strategy, counters::Counters};
use std::{fs, io::Write, sync::Arc};
use tokio::time::timeout;

/// What is asked for, by whom, and the limit that says no.
#[test]
fn whoever_wants_too_much_is_told_which_limit_it_has_met() {
    let t = TestHost::new();
    t.write("value", "x");
    let server = hostile::tcp(hostile::hold);
    let to = format!("to=127.0.0.1:{}", server.port());
    let address = format!("address=tcp://127.0.0.1:{}", server.port());
    let deeds: [(&str, &[&str], &str); 11] = [
        ("grow", &[], "limit `memory` is 24MiB"),
        ("huge", &[], "limit `call-data` is 16MiB"),
        ("full", &[], "limit `value` is 8MiB"),
        ("huge-cursor", &[], "cursor has 12582912 bytes; it may have 65536"),
        ("huge-media-type", &[], "media type has 12582912 bytes"),
        ("pollables", &[], "limit `handles` is 256"),
        ("watches", &["granted=value", "to=value"], "limit `handles` is 256"),
        ("connections", &[&address, &to], "limit `connections` is 32"),
        ("random", &[], "limit `random` is 64KiB"),
        ("headers", &[], "limit `http-head` is 64KiB"),
        ("huge-request", &["address=http://127.0.0.1:9/", "to=http://127.0.0.1:9/"], "xxx"),
    ];
    for (deed_, settings, limit) in deeds {
        fails(&deed(&t, deed_, settings), limit);
    }
    for (guest, limit) in [
        ("table-grow", "limit `table-elements` is 100000"),
        ("wide", "limit `memory` is 24MiB"),
        ("wide-table", "limit `table-elements` is 100000"),
        ("many-fields", "limit `call-data` is 16MiB"),
        ("huge-list", "the plugin"),
        ("data", "the plugin"),
    ] {
        fails(&text(&t, guest, &[]), limit);
    }
}

/// A server that does not say beforehand how long its body will be.
fn unannounced(body: &str) -> hostile::Server {
    let response = format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes();
    hostile::http(move |_, stream| stream.write_all(&response))
}

/// A plugin has little memory by default, but enough for the largest value.
#[test]
fn the_largest_value_that_there_may_be_fits_into_the_memory_that_there_is() {
    let t = TestHost::new();
    let largest = "x".repeat(8 << 20);
    t.write("value", &largest);
    let url = format!("url=http://127.0.0.1:{}/", unannounced(&largest).port());
    for [plugin, setting] in [["file", "path=value"], ["http", &url]] {
        let run = t.finish(&["run", "--once", "--plugin", plugin, "--set", setting]);
        assert!(said(&run) == largest, "{plugin}: {}", run.stderr);
    }
}

/// What reads and what watches have that memory together, and each keeps what it has once had.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_value_may_change_while_it_is_read_and_watched() {
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
            let next = timeout(PATIENCE, values.next()).await;
            let next = next.unwrap_or_else(|_| panic!("{plugin}: {:?}", values.state()));
            assert!(next.unwrap().content == value(byte).as_bytes(), "{plugin}");
            let before = values.state().last_success_at;
            source.reload();
            wait_until("it has been read again", || {
                let counts = counters.read();
                let failures = counts.read_failures.into_iter().chain(counts.watch_failures);
                assert_eq!(failures.map(|(_, count)| count).sum::<u64>(), 0, "{plugin} {byte}");
                values.state().last_success_at > before
            });
        }
        set(&value(char::from_u32(byte as u32 + 1).unwrap()));
    }
}

/// Only what arrives takes memory, not what might.
#[test]
fn a_body_may_be_allowed_to_be_longer_than_there_is_memory() {
    let t = TestHost::new();
    let body = "x".repeat(5 << 20);
    let url = format!("url=http://127.0.0.1:{}/", unannounced(&body).port());
    let arguments = ["run", "--once", "--plugin", "http", "--set", &url, "--set"];
    let run =
        t.finish(&[&arguments[..], &["max_bytes=16777216", "--limit", "memory=20MiB"]].concat());
    assert!(said(&run) == body, "{}", run.stderr);
}

#[test]
fn limits_can_be_set() {
    let t = TestHost::new();
    t.write("value", "x");
    for (limit, name, cited) in [
        ("memory=8MiB", "grow", "limit `memory` is 8MiB"),
        ("value=1MiB", "full", "limit `value` is 1MiB"),
        ("handles=10", "pollables", "limit `handles` is 10"),
        ("random=1KiB", "random", "limit `random` is 1KiB"),
    ] {
        fails(&limited(&t, limit, name, &[]), cited);
    }
    let full = limited(&t, "value=16MiB", "full", &[]);
    assert_eq!(full.status, Some(0), "{}", full.stderr);
}

#[test]
fn what_a_plugin_declares_itself_holds_for_it_too() {
    let t = TestHost::new();
    assert_eq!(said(&text(&t, "grow-past", &[])), "x");
}

#[test]
fn the_texts_of_a_request_are_bounded_and_the_refusal_says_which() {
    let t = TestHost::new();
    let run = deed(&t, "request-bombs", &[]);
    assert_eq!(said(&run), "0", "none is taken");
    for (what, most) in [("method", 64), ("scheme", 64), ("host", 16384), ("path", 16384)] {
        let expected =
            format!("refused a request: the {what} has 102400 bytes; it may have {most}");
        assert_eq!(run.stderr.matches(&format!("WARN {expected}")).count(), 1, "{}", run.stderr);
    }
    fails(&deed(&t, "header-bomb", &[]), "limit `http-head` is 64KiB");
}

#[test]
fn what_is_shown_of_it_is_bounded() {
    let t = TestHost::new();
    for deed_ in ["huge-failure", "panic-hugely", "huge-path"] {
        let run = deed(&t, deed_, &[]);
        fails(&run, "xxx");
        assert!(run.stderr.len() < 15_000, "{deed_}: {} bytes", run.stderr.len());
    }
}

#[test]
fn there_are_no_sockets_not_even_closed_ones() {
    let t = TestHost::new();
    // Each would be a descriptor of the host's.
    let sockets = said(&deed(&t, "sockets", &[]));
    assert!(sockets.starts_with("0: ") && sockets.contains("access-denied"), "{sockets}");
}

#[test]
fn a_plugin_that_cannot_begin_says_so() {
    let t = TestHost::new();
    fails(&text(&t, "start-trap", &[]), "the plugin ended itself (in `open`)");
    fails(&text(&t, "realloc-wild", &[]), "(in `open`)");
}

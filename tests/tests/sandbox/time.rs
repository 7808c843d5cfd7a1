//! Ways to take one's time, or a processor's. Waiting and computing have a limit each.

use crate::{arguments, deed, fails, finish, keep_at, limited, text};
use e2e::{TestHost, hostile};
use std::{io::Write, thread, time::Duration};

/// Far less than any test waits, far more than a call needs.
const LITTLE_CPU: &str = "call-cpu=200ms";
const LITTLE_TIME: &str = "call-timeout=200ms";

#[test]
fn computing_without_end_ends_in_each_call() {
    let t = TestHost::new();
    for when in ["open", "reload"] {
        let run = limited(&t, LITTLE_CPU, "spin", &[&format!("when={when}")]);
        fails(&run, &computed(when));
    }
    for when in ["open", "arm", "next"] {
        let run = keep_at(
            &t,
            "spin",
            &[&format!("when={when}")],
            &["--strategy", "realtime", "--limit", LITTLE_CPU],
        );
        run.wait_for_log(&computed(when));
    }
}

/// What is said of who has computed for too long.
fn computed(when: &str) -> String {
    format!("the plugin computed for too long in one call: limit `call-cpu` is 200ms (in `{when}`)")
}

#[test]
fn computing_without_end_ends_where_no_call_has_begun_and_where_one_has_ended() {
    let t = TestHost::new();
    for (guest, when) in [
        ("start-spin", "open"),
        ("realloc-spin", "open"),
        ("after-return", "reload"),
        ("memory-grow", "reload"),
        ("fill", "reload"),
    ] {
        let run = text(&t, guest, &["--limit", LITTLE_CPU]);
        let limits = [computed(when), "limit `memory` is 24MiB".into()];
        let met = limits.iter().find(|limit| run.stderr.contains(limit.as_str()));
        fails(&run, met.unwrap_or(&limits[0]));
    }
}

/// Calls to the host count: whichever limit they meet first.
#[test]
fn keeping_the_host_busy_is_computing() {
    let t = TestHost::new();
    t.write("value", "x");
    for deed in ["nap", "busy-wait", "busy-calls", "busy-read", "random-flood"] {
        let settings = arguments(deed, &["granted=value", "to=value"]);
        let limits = ["--once", "--limit", LITTLE_CPU, "--limit", "call-timeout=3s"];
        let run = finish(&t, &settings, &limits);
        let late = "did not answer `reload` in time: limit `call-timeout` is 3s";
        let is_late = run.stderr.contains(late);
        fails(&run, if is_late { late } else { "limit `call-cpu` is 200ms (in `reload`)" });
    }
}

#[test]
fn the_default_limit_of_computing_is_two_seconds() {
    let t = TestHost::new();
    fails(&deed(&t, "spin", &[]), "limit `call-cpu` is 2s (in `reload`)");
}

#[test]
fn waiting_without_end_ends_in_each_call_that_has_a_limit() {
    let t = TestHost::new();
    t.write("value", "x");
    let server = hostile::tcp(hostile::hold);
    let address = format!("127.0.0.1:{}", server.port());
    let granted = format!("address=tcp://{address}");
    for (deed, to) in [("sleep", ""), ("wait-for-file", "value"), ("wait-for-bytes", &address)] {
        for when in ["open", "reload", "arm"] {
            let (when_, to) = (format!("when={when}"), format!("to={to}"));
            let settings = [when_.as_str(), &to, "granted=value", &granted];
            let late = format!(
                "the plugin did not answer `{when}` in time: limit `call-timeout` is 200ms"
            );
            if when == "arm" {
                let more = ["--strategy", "realtime", "--limit", LITTLE_TIME];
                keep_at(&t, deed, &settings, &more).wait_for_log(&late);
            } else {
                fails(&limited(&t, LITTLE_TIME, deed, &settings), &late);
            }
        }
    }
}

#[test]
fn a_watch_that_is_silent_is_opened_anew() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime", "--limit", "liveness=200ms"];
    let mut run = keep_at(&t, "sleep", &["when=next"], &more);
    run.wait_for_value("here");
    run.wait_for_log("the watch was silent: limit `liveness` is 200ms");
}

#[test]
fn a_request_whose_body_does_not_end_ends() {
    let t = TestHost::new();
    // It never reads.
    let server = hostile::tcp(|stream| {
        stream.peek(&mut [0])?;
        thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let to = format!("to=127.0.0.1:{}", server.port());
    let granted = format!("address={}", server.url("/"));
    let run = limited(&t, LITTLE_TIME, "upload", &[&to, &granted]);
    fails(&run, "did not answer `reload` in time: limit `call-timeout` is 200ms");
}

#[test]
fn calling_oneself_without_end_ends() {
    let t = TestHost::new();
    for run in [deed(&t, "recurse", &[]), text(&t, "recurse", &[])] {
        fails(&run, "the plugin called itself until its stack was full (in `reload`)");
    }
}

#[test]
fn an_instance_whose_call_was_dropped_is_not_used_again() {
    // Each read is dropped half-way; what comes after it finds a plugin that works.
    let t = TestHost::new();
    let mut run = keep_at(&t, "trap-later", &[], &["--interval", "30ms", "--strategy", "polling"]);
    run.wait_for_value("not yet");
    run.wait_for_log("reading failed");
    run.wait_for_log("the source answers again");
    assert!(!run.stderr().contains("cannot enter"), "{}", run.stderr());
}

#[test]
fn waiting_is_not_computing() {
    const PIECES: usize = 2_500;
    let t = TestHost::new();
    // Each piece wakes the plugin after more than a millisecond: more often than its limit has those.
    let server = hostile::http(|_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {PIECES}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        for _ in 0..PIECES {
            thread::sleep(Duration::from_micros(1_200));
            stream.write_all(b"x")?;
        }
        Ok(())
    });
    let url = format!("url={}", server.url("/"));
    let run = t.finish(&["run", "--plugin", "http", "--once", "--format", "raw", "--set", &url]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(run.stdout.len(), PIECES);
}

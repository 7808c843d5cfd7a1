//! Attacks on CPU time (`call-cpu`) and on the duration of calls (`call-timeout`).

use crate::{arguments, deed, deed_with_limit, fails, finish, start_deed, text};
use e2e::{TestHost, hostile};
use std::{io::Write, thread, time::Duration};

/// Short CPU limit for a call, to keep the tests fast. A normal call needs far less.
const SHORT_CALL_CPU: &str = "call-cpu=200ms";
/// Short timeout for a call, to keep the tests fast. A normal call needs far less.
const SHORT_CALL_TIMEOUT: &str = "call-timeout=200ms";

#[test]
fn infinite_loop_is_interrupted() {
    let t = TestHost::new();
    for when in ["open", "reload"] {
        let run = deed_with_limit(&t, SHORT_CALL_CPU, "infinite-loop", &[&format!("when={when}")]);
        fails(&run, &cpu_limit_error(when));
    }
    for when in ["open", "arm", "next"] {
        let run = start_deed(
            &t,
            "infinite-loop",
            &[&format!("when={when}")],
            &["--strategy", "realtime", "--limit", SHORT_CALL_CPU],
        );
        run.wait_for_log(&cpu_limit_error(when));
    }
}

/// Returns the error for an exceeded CPU limit.
fn cpu_limit_error(when: &str) -> String {
    format!(
        "the plugin used too much CPU time in one call: limit `call-cpu` is 200ms (in `{when}`)"
    )
}

/// The CPU limit also holds for start functions, allocation functions and post-return functions.
#[test]
fn infinite_loop_outside_exports_is_interrupted() {
    let t = TestHost::new();
    for (guest, when) in [
        ("start-infinite-loop", "open"),
        ("realloc-infinite-loop", "open"),
        ("infinite-loop-after-return", "reload"),
        ("memory-growth-by-pages", "reload"),
        ("memory-fill", "reload"),
    ] {
        let run = text(&t, guest, &["--limit", SHORT_CALL_CPU]);
        let limits = [cpu_limit_error(when), "limit `memory` is 24MiB".into()];
        let met = limits.iter().find(|limit| run.stderr.contains(limit.as_str()));
        fails(&run, met.unwrap_or(&limits[0]));
    }
}

/// Host calls count as CPU time. Either limit may be exceeded first.
#[test]
fn host_calls_count_as_cpu_time() {
    let t = TestHost::new();
    t.write("value", "x");
    for deed in ["compute-and-sleep", "busy-wait", "busy-calls", "busy-read", "random-flood"] {
        let settings = arguments(deed, &["granted=value", "to=value"]);
        let limits = ["--once", "--limit", SHORT_CALL_CPU, "--limit", "call-timeout=3s"];
        let run = finish(&t, &settings, &limits);
        let late = "did not answer `reload` in time: limit `call-timeout` is 3s";
        let is_late = run.stderr.contains(late);
        fails(&run, if is_late { late } else { "limit `call-cpu` is 200ms (in `reload`)" });
    }
}

#[test]
fn default_cpu_limit_is_two_seconds() {
    let t = TestHost::new();
    fails(&deed(&t, "infinite-loop", &[]), "limit `call-cpu` is 2s (in `reload`)");
}

#[test]
fn endless_wait_times_out() {
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
                let more = ["--strategy", "realtime", "--limit", SHORT_CALL_TIMEOUT];
                start_deed(&t, deed, &settings, &more).wait_for_log(&late);
            } else {
                fails(&deed_with_limit(&t, SHORT_CALL_TIMEOUT, deed, &settings), &late);
            }
        }
    }
}

#[test]
fn silent_watch_is_reopened() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime", "--limit", "liveness=200ms"];
    let mut run = start_deed(&t, "sleep", &["when=next"], &more);
    run.wait_for_value("here");
    run.wait_for_log("the watch was silent: limit `liveness` is 200ms");
}

#[test]
fn endless_upload_times_out() {
    let t = TestHost::new();
    // The server never reads the body.
    let server = hostile::tcp(|stream| {
        stream.peek(&mut [0])?;
        thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let to = format!("to=127.0.0.1:{}", server.port());
    let granted = format!("address={}", server.url("/"));
    let run = deed_with_limit(&t, SHORT_CALL_TIMEOUT, "endless-upload", &[&to, &granted]);
    fails(&run, "did not answer `reload` in time: limit `call-timeout` is 200ms");
}

#[test]
fn infinite_recursion_is_stopped() {
    let t = TestHost::new();
    for run in [deed(&t, "infinite-recursion", &[]), text(&t, "stack-overflow", &[])] {
        fails(&run, "the plugin overflowed its stack (in `reload`)");
    }
}

#[test]
fn instance_is_replaced_after_trap() {
    // Every second read traps; the next read must work with a new instance.
    let t = TestHost::new();
    let mut run = start_deed(
        &t,
        "trap-every-second-call",
        &[],
        &["--interval", "30ms", "--strategy", "polling"],
    );
    run.wait_for_value("not yet");
    run.wait_for_log("read failed");
    run.wait_for_log("read recovered");
    assert!(!run.stderr().contains("cannot enter"), "{}", run.stderr());
}

#[test]
fn waiting_does_not_count_as_cpu_time() {
    const CHUNKS: usize = 2_500;
    let t = TestHost::new();
    // Each chunk wakes the plugin after more than 1 ms, more often than the CPU limit has
    // milliseconds.
    let server = hostile::http(|_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {CHUNKS}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        for _ in 0..CHUNKS {
            thread::sleep(Duration::from_micros(1_200));
            stream.write_all(b"x")?;
        }
        Ok(())
    });
    let url = format!("url={}", server.url("/"));
    let run = t.finish(&["run", "--plugin", "http", "--once", "--format", "raw", "--set", &url]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(run.stdout.len(), CHUNKS);
}

//! Attacks on CPU time (`call-cpu`) and on the duration of calls (`call-timeout`).

use crate::run_attack::{arguments, attack, attack_with_limit, fails, finish, start_attack, text};
use e2e::{TestHost, hostile};
use std::{io::Write, thread, time::Duration};

/// Short CPU limit for a call, to keep the tests fast. A normal call needs far less.
const SHORT_CALL_CPU: &str = "call-cpu=200ms";
/// Short timeout for a call, to keep the tests fast. A normal call needs far less.
const SHORT_CALL_TIMEOUT: &str = "call-timeout=200ms";

fn assert_once_interrupted(when: &str) {
    let t = TestHost::new();
    let settings = [&*format!("when={when}")];
    let run = attack_with_limit(&t, SHORT_CALL_CPU, "infinite-loop", &settings);
    fails(&run, &cpu_limit_error(when));
}

e2e::cases! {
    mod infinite_loop_is_interrupted: assert_once_interrupted {
        in_open("open");
        in_reload("reload");
    }
}

fn assert_watch_interrupted(when: &str) {
    let t = TestHost::new();
    let settings = [&*format!("when={when}")];
    let more = ["--strategy", "realtime", "--limit", SHORT_CALL_CPU];
    let run = start_attack(&t, "infinite-loop", &settings, &more);
    run.wait_for_log(&cpu_limit_error(when));
}

e2e::cases! {
    mod infinite_loop_of_watch_is_interrupted: assert_watch_interrupted {
        in_open("open");
        in_arm("arm");
        in_next("next");
    }
}

/// Returns the error for an exceeded CPU limit.
fn cpu_limit_error(when: &str) -> String {
    format!(
        "the plugin used too much CPU time in one call: limit `call-cpu` is 200ms (in `{when}`)"
    )
}

/// Asserts that the guest exceeds the CPU limit or the memory limit, whichever it reaches first.
fn assert_text_guest_interrupted(guest: &str, when: &str) {
    let run = text(&TestHost::new(), guest, &["--limit", SHORT_CALL_CPU]);
    let limits = [cpu_limit_error(when), "limit `memory` is 24MiB".into()];
    let met = limits.iter().find(|limit| run.stderr.contains(limit.as_str()));
    fails(&run, met.unwrap_or(&limits[0]));
}

e2e::cases! {
    /// The CPU limit also holds for start functions, allocation functions and post-return
    /// functions.
    mod infinite_loop_outside_exports_is_interrupted: assert_text_guest_interrupted {
        start_function("start-infinite-loop", "open");
        allocation_function("realloc-infinite-loop", "open");
        post_return_function("infinite-loop-after-return", "reload");
        memory_growth("memory-growth-by-pages", "reload");
        memory_fill("memory-fill", "reload");
    }
}

/// Asserts that the attack exceeds the CPU limit of a call, or the call timeout on a busy machine.
fn assert_host_calls_limited(attack_name: &str) {
    let t = TestHost::new();
    t.write("value", "x");
    let settings = arguments(attack_name, &["granted=value", "to=value"]);
    let limits = ["--once", "--limit", SHORT_CALL_CPU, "--limit", "call-timeout=3s"];
    let run = finish(&t, &settings, &limits);
    let late = "did not answer `reload` in time: limit `call-timeout` is 3s";
    let is_late = run.stderr.contains(late);
    fails(&run, if is_late { late } else { "limit `call-cpu` is 200ms (in `reload`)" });
}

e2e::cases! {
    /// Host calls count as CPU time.
    mod host_calls_count_as_cpu_time: assert_host_calls_limited {
        computation_between_sleeps("compute-and-sleep");
        ready_pollables("busy-wait");
        clock_and_log("busy-calls");
        file_reads("busy-read");
        random_bytes("random-flood");
    }
}

#[test]
fn default_cpu_limit_is_two_seconds() {
    let t = TestHost::new();
    fails(&attack(&t, "infinite-loop", &[]), "limit `call-cpu` is 2s (in `reload`)");
}

/// Performs an endless wait in the calls `open`, `reload` and `arm`, and asserts that the call timeout
/// ends each call.
fn assert_wait_times_out(attack_name: &str, target: &str) {
    let t = TestHost::new();
    t.write("value", "x");
    let server = hostile::tcp(hostile::hold);
    let address = format!("127.0.0.1:{}", server.port());
    let (granted, to) =
        (format!("address=tcp://{address}"), format!("to={}", target.replace("ADDRESS", &address)));
    for when in ["open", "reload", "arm"] {
        let when_ = format!("when={when}");
        let settings = [when_.as_str(), &to, "granted=value", &granted];
        let late =
            format!("the plugin did not answer `{when}` in time: limit `call-timeout` is 200ms");
        if when == "arm" {
            let more = ["--strategy", "realtime", "--limit", SHORT_CALL_TIMEOUT];
            start_attack(&t, attack_name, &settings, &more).wait_for_log(&late);
        } else {
            let run = attack_with_limit(&t, SHORT_CALL_TIMEOUT, attack_name, &settings);
            fails(&run, &late);
        }
    }
}

e2e::cases! {
    mod endless_wait_times_out: assert_wait_times_out {
        sleep("sleep", "");
        file_watch("wait-for-file", "value");
        connection("wait-for-bytes", "ADDRESS");
    }
}

#[test]
fn silent_watch_is_reopened() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime", "--limit", "liveness=200ms"];
    let mut run = start_attack(&t, "sleep", &["when=next"], &more);
    run.wait_for_value("here");
    run.wait_for_log("the watch was silent: limit `liveness` is 200ms");
}

#[test]
fn endless_upload_times_out() {
    let t = TestHost::new();
    // The server never reads the body, so that the send buffer of the host fills up.
    let server = hostile::tcp(|stream| {
        stream.peek(&mut [0])?;
        loop {
            thread::park();
        }
    });
    let to = format!("to=127.0.0.1:{}", server.port());
    let granted = format!("address={}", server.url("/"));
    let run = attack_with_limit(&t, SHORT_CALL_TIMEOUT, "endless-upload", &[&to, &granted]);
    fails(&run, "did not answer `reload` in time: limit `call-timeout` is 200ms");
}

#[test]
fn infinite_recursion_is_stopped() {
    let run = attack(&TestHost::new(), "infinite-recursion", &[]);
    fails(&run, "the plugin overflowed its stack (in `reload`)");
}

#[test]
fn stack_overflow_is_stopped() {
    let run = text(&TestHost::new(), "stack-overflow", &[]);
    fails(&run, "the plugin overflowed its stack (in `reload`)");
}

#[test]
fn instance_is_replaced_after_trap() {
    // Every second read traps; the next read must work with a new instance.
    let t = TestHost::new();
    let mut run = start_attack(
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
    // The chunks wake the plugin 2,500 times, after 1.2 ms each. If a wait counted as 1 ms of CPU time,
    // the plugin would exceed the CPU limit of two seconds.
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

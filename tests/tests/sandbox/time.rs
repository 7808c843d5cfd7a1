//! Ways to take one's time, or a processor's. Waiting and computing have a limit each.

use crate::{Call, deed, fails, keep_at, limited, text};
use e2e::{TestHost, guest, hostile, text_guest};
use reloader_host::{Failure, plugin::Limits};
use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

/// Far less than any test waits, far more than a call needs.
const SHORT: Duration = Duration::from_millis(200);

fn little_cpu() -> Limits {
    Limits { call_cpu: SHORT, ..Limits::default() }
}

fn little_time() -> Limits {
    Limits { call_timeout: SHORT, ..Limits::default() }
}

/// The failure that this comes to, which does not take long.
fn soon(call: impl FnOnce() -> Result<reloader_host::model::Outcome, Failure>) -> String {
    let start = Instant::now();
    let message = call().expect_err("it does not end well").message.to_string();
    assert!(start.elapsed() < SHORT * 20, "{message}: {:?}", start.elapsed());
    message
}

#[test]
fn computing_without_end_ends_in_each_call() {
    let plugin = guest("restless");
    for (when, call, named) in [
        ("open", Call::Read, "`open`"),
        ("reload", Call::Read, "`reload`"),
        ("arm", Call::Watch, "`arm`"),
        ("next", Call::Watch, "`next`"),
    ] {
        let settings = [("deed", "spin"), ("when", when)];
        let message = soon(|| limited(little_cpu(), &plugin, &settings, call));
        assert_eq!(
            message,
            format!("the plugin computed for more than 200ms in one call (in {named})")
        );
    }
}

#[test]
fn computing_without_end_ends_where_no_call_has_begun_and_where_one_has_ended() {
    for (guest, named) in [
        ("start-spin", "`open`"),
        ("realloc-spin", "`open`"),
        ("after-return", "`reload`"),
        ("memory-grow", "`reload`"),
        ("fill", "`reload`"),
    ] {
        let plugin = text_guest(guest);
        let message = soon(|| limited(little_cpu(), &plugin, &[], Call::Read));
        assert_eq!(
            message,
            format!("the plugin computed for more than 200ms in one call (in {named})"),
            "{guest}"
        );
    }
}

#[test]
fn keeping_the_host_busy_is_computing() {
    let plugin = guest("restless");
    let t = TestHost::new();
    t.write("value", "x");
    let value = t.path("value").display().to_string();
    for deed in ["nap", "busy-wait", "busy-calls", "busy-read", "random-flood", "print-flood"] {
        let settings = [("deed", deed), ("granted", value.as_str()), ("to", value.as_str())];
        // Whichever limit it meets first: what waits in between takes longer to compute for so long.
        let limits = Limits { call_timeout: SHORT * 10, ..little_cpu() };
        let message = soon(|| limited(limits, &plugin, &settings, Call::Read));
        let expected = ["computed for more than 200ms", "did not answer `reload` within 2s"];
        assert!(expected.iter().any(|end| message.contains(end)), "{deed}: {message}");
    }
}

#[test]
fn the_default_limit_of_computing_is_said_in_one_line() {
    let t = TestHost::new();
    fails(&deed(&t, "spin", &[]), "computed for more than 2s in one call (in `reload`)");
}

#[test]
fn waiting_without_end_ends_in_each_call_that_has_a_limit() {
    let t = TestHost::new();
    t.write("value", "x");
    let value = t.path("value").display().to_string();
    let server = hostile::tcp(hostile::hold);
    let address = format!("127.0.0.1:{}", server.port());
    let granted = format!("tcp://{address}");
    let plugin = guest("restless");
    for (deed, to) in
        [("sleep", ""), ("wait-for-file", value.as_str()), ("wait-for-bytes", &address)]
    {
        for (when, call) in [("open", Call::Read), ("reload", Call::Read), ("arm", Call::Watch)] {
            let settings = [
                ("deed", deed),
                ("when", when),
                ("to", to),
                ("granted", value.as_str()),
                ("address", granted.as_str()),
            ];
            let message = soon(|| limited(little_time(), &plugin, &settings, call));
            assert_eq!(
                message,
                format!("the plugin did not answer `{when}` within 200ms"),
                "{deed}"
            );
        }
    }
}

#[test]
fn a_request_whose_body_does_not_end_ends() {
    // It takes the head, and never reads the body.
    let server = hostile::tcp(|stream| {
        stream.peek(&mut [0])?;
        thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let to = format!("127.0.0.1:{}", server.port());
    let settings = [("deed", "upload"), ("to", to.as_str()), ("address", &format!("http://{to}"))];
    let message = soon(|| limited(little_time(), &guest("restless"), &settings, Call::Read));
    assert_eq!(message, "the plugin did not answer `reload` within 200ms");
}

#[test]
fn calling_oneself_without_end_ends() {
    let t = TestHost::new();
    for run in [deed(&t, "recurse", &[]), text(&t, "recurse", &[])] {
        fails(&run, "the plugin used up its stack (in `reload`)");
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

//! What a plugin does not get: guests that try, and the exact outcome of each.
//!
//! The guest `restless` does what it is told; the others are written as text. `coverage` looks that
//! no deed and no text is without a test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod coverage;
mod egress;
mod files;
mod isolation;
mod log;
mod memory;
mod protocol;
mod time;

use e2e::{Finished, Running, TestHost, guest, text_guest};

/// What makes a message one of a machine's, and not one for people.
const MACHINE: [&str; 8] = [
    "backtrace:",
    "wasm trap",
    "unreachable",
    "0x",
    "fuel",
    "hostcall",
    "thread '",
    "resource table",
];

/// The arguments that let the guest do something.
fn arguments(deed: &str, settings: &[&str]) -> Vec<String> {
    let plugin = guest("restless").display().to_string();
    let mut arguments: Vec<String> = ["run", "--plugin", &plugin, "--set"].map(Into::into).to_vec();
    arguments.push(format!("deed={deed}"));
    for setting in settings {
        arguments.extend(["--set".into(), (*setting).into()]);
    }
    arguments
}

fn finish(t: &TestHost, arguments: &[String], more: &[&str]) -> Finished {
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    t.finish(&arguments)
}

/// Lets the guest do something once, with these settings.
fn deed(t: &TestHost, deed: &str, settings: &[&str]) -> Finished {
    finish(t, &arguments(deed, settings), &["--once"])
}

/// The same, with a limit so small that nobody has to wait for it: `NAME=VALUE`.
fn limited(t: &TestHost, limit: &str, deed: &str, settings: &[&str]) -> Finished {
    finish(t, &arguments(deed, settings), &["--once", "--limit", limit])
}

/// Lets the guest do something for as long as the test takes.
fn keep_at(t: &TestHost, deed: &str, settings: &[&str], more: &[&str]) -> Running {
    let arguments = arguments(deed, settings);
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    t.run(&arguments)
}

/// Reads a guest that is written as text once.
fn text(t: &TestHost, name: &str, more: &[&str]) -> Finished {
    let plugin = text_guest(name).display().to_string();
    t.finish(&[&["run", "--once", "--plugin", &plugin], more].concat())
}

/// The reason why a host has ended with status 1: one line, in words, with this in it.
fn fails(run: &Finished, expected: &str) {
    fails_with(run, 1, expected);
}

fn fails_with(run: &Finished, status: i32, expected: &str) {
    assert_eq!(run.status, Some(status), "{run:?}");
    assert!(run.stdout.is_empty(), "{run:?}");
    let reasons: Vec<&str> = run.stderr.lines().filter(|line| !is_logged(line)).collect();
    let [reason] = reasons.as_slice() else { panic!("one line: {:?}", run.stderr) };
    assert!(reason.starts_with("error: "), "{reason}");
    assert!(reason.contains(expected), "{expected:?} is not in {reason:?}");
    assert!(reason.len() < 5_000, "it is {} bytes long", reason.len());
    for word in MACHINE {
        assert!(!reason.contains(word), "{word:?} is in {reason:?}");
    }
}

/// Lines of the log begin with a time.
fn is_logged(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit())
}

/// The value that a deed came to.
fn said(run: &Finished) -> String {
    assert_eq!(run.status, Some(0), "{run:?}");
    let line: serde_json::Value = serde_json::from_str(&run.text()).unwrap();
    line["content"].as_str().unwrap().into()
}

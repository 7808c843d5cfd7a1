//! Sandbox tests: hostile guests and the exact outcome of each attack.
//!
//! The guest `restless` performs the attack (deed) that its settings select. The other guests are
//! WebAssembly text. `coverage` checks that each deed and each text guest has a test.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod coverage;
mod egress;
mod files;
mod isolation;
mod log;
mod memory;
mod protocol;
mod time;

use e2e::{Finished, Running, TestHost, guest, text_guest};

/// Internal terms that must not occur in an error message.
const INTERNAL_TERMS: [&str; 8] = [
    "backtrace:",
    "wasm trap",
    "unreachable",
    "0x",
    "fuel",
    "hostcall",
    "thread '",
    "resource table",
];

/// Returns the arguments of `host run` for a deed.
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

/// Runs a deed once and returns the result.
fn deed(t: &TestHost, deed: &str, settings: &[&str]) -> Finished {
    finish(t, &arguments(deed, settings), &["--once"])
}

/// Like [`deed`], with a limit `NAME=VALUE`, which shortens the test.
fn deed_with_limit(t: &TestHost, limit: &str, deed: &str, settings: &[&str]) -> Finished {
    finish(t, &arguments(deed, settings), &["--once", "--limit", limit])
}

/// Starts a host that repeats a deed until the test ends.
fn start_deed(t: &TestHost, deed: &str, settings: &[&str], more: &[&str]) -> Running {
    let arguments = arguments(deed, settings);
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    t.run(&arguments)
}

/// Runs a text guest once.
fn text(t: &TestHost, name: &str, more: &[&str]) -> Finished {
    let plugin = text_guest(name).display().to_string();
    t.finish(&[&["run", "--once", "--plugin", &plugin], more].concat())
}

/// Asserts that the host exited with status 1 and a one-line error that contains `expected`.
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
    for word in INTERNAL_TERMS {
        assert!(!reason.contains(word), "{word:?} is in {reason:?}");
    }
}

/// Returns whether a line is a log event, which begins with a timestamp.
fn is_logged(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit())
}

/// Returns the value that the host printed.
fn value_of(run: &Finished) -> String {
    assert_eq!(run.status, Some(0), "{run:?}");
    let line: serde_json::Value = serde_json::from_str(&run.text()).unwrap();
    line["content"].as_str().unwrap().into()
}

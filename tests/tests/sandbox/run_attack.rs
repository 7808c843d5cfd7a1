//! Runs one attack in a host process and checks its outcome.

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

/// Returns the arguments of `host run` for an attack.
pub(crate) fn arguments(attack: &str, settings: &[&str]) -> Vec<String> {
    let plugin = guest("attacker").display().to_string();
    let mut arguments: Vec<String> = ["run", "--plugin", &plugin, "--set"].map(Into::into).to_vec();
    arguments.push(format!("attack={attack}"));
    for setting in settings {
        arguments.extend(["--set".into(), (*setting).into()]);
    }
    arguments
}

pub(crate) fn finish(t: &TestHost, arguments: &[String], more: &[&str]) -> Finished {
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    t.finish(&arguments)
}

/// Runs an attack once and returns the result.
pub(crate) fn attack(t: &TestHost, attack: &str, settings: &[&str]) -> Finished {
    finish(t, &arguments(attack, settings), &["--once"])
}

/// Like [`attack`], with another limit than the default: `NAME=VALUE`.
pub(crate) fn attack_with_limit(
    t: &TestHost,
    limit: &str,
    attack: &str,
    settings: &[&str],
) -> Finished {
    finish(t, &arguments(attack, settings), &["--once", "--limit", limit])
}

/// Starts a host that repeats an attack until the test ends.
pub(crate) fn start_attack(
    t: &TestHost,
    attack: &str,
    settings: &[&str],
    more: &[&str],
) -> Running {
    let arguments = arguments(attack, settings);
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    t.run(&arguments)
}

/// Runs the host once with a text guest as the plugin.
pub(crate) fn text(t: &TestHost, name: &str, more: &[&str]) -> Finished {
    let plugin = text_guest(name).display().to_string();
    t.finish(&[&["run", "--once", "--plugin", &plugin], more].concat())
}

/// Asserts that the host exited with status 1 and a one-line error that contains `expected`.
pub(crate) fn fails(run: &Finished, expected: &str) {
    fails_with(run, 1, expected);
}

pub(crate) fn fails_with(run: &Finished, status: i32, expected: &str) {
    assert_eq!(run.status, Some(status), "{run:?}");
    assert!(run.stdout.is_empty(), "{run:?}");
    let reasons: Vec<&str> = run.stderr.lines().filter(|line| !is_logged(line)).collect();
    let [reason] = reasons.as_slice() else {
        panic!("expected one line of error, got {:?}", run.stderr)
    };
    assert!(reason.starts_with("error: "), "{reason}");
    assert!(reason.contains(expected), "{expected:?} is not in {reason:?}");
    assert!(reason.len() < 5_000, "the error has {} bytes", reason.len());
    for word in INTERNAL_TERMS {
        assert!(!reason.contains(word), "{word:?} is in {reason:?}");
    }
}

/// Returns whether a line is a log event, which begins with a timestamp.
fn is_logged(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit())
}

/// Returns the value that the host printed, and asserts that the host succeeded.
pub(crate) fn value_of(run: &Finished) -> String {
    assert_eq!(run.status, Some(0), "{run:?}");
    let line: serde_json::Value = serde_json::from_str(&run.text()).unwrap();
    line["content"].as_str().unwrap().into()
}

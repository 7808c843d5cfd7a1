//! Attacks on the log: injection, floods and oversized events.

use crate::{deed, finish, value_of};
use e2e::TestHost;

/// An event keeps its fields, and line breaks and control characters are escaped.
#[test]
fn log_event_is_escaped() {
    let t = TestHost::new();
    let run = deed(&t, "log", &["to=me"]);
    assert_eq!(value_of(&run), "done");
    let lines: Vec<&str> = run.stderr.lines().collect();
    let [first, second] = lines.as_slice() else { panic!("{lines:?}") };
    for expected in ["WARN", r"something to say\n\u{1b}[31m answer=42 who=me", "source=restless"] {
        assert!(first.contains(expected), "{expected}: {first}");
    }
    for expected in [r"from\r\n2026-01-01T00:00:00Z ERROR elsewhere\u{202e}", r"module=mod\nule"] {
        assert!(second.contains(expected), "{expected}: {second}");
    }
}

#[test]
fn log_level_filters_guest_events() {
    let t = TestHost::new();
    for (level, expected) in [("off", 0), ("error", 1), ("warn", 2), ("info", 3), ("trace", 5)] {
        let run =
            finish(&t, &crate::arguments("log-levels", &[]), &["--once", "--log-level", level]);
        let lines = run.stderr.lines().filter(|line| line.contains("source=restless")).count();
        assert_eq!(lines, expected, "{level}: {}", run.stderr);
    }
}

#[test]
fn log_flood_is_rate_limited() {
    let t = TestHost::new();
    let run = deed(&t, "log-flood", &[]);
    assert_eq!(value_of(&run), "done");
    let lines = run.stderr.lines().count();
    assert!(lines < 2_000, "{lines} lines");
}

#[test]
fn oversized_log_event_is_truncated() {
    let t = TestHost::new();
    for deed_ in ["log-oversized", "log-many-fields"] {
        let run = deed(&t, deed_, &[]);
        assert_eq!(value_of(&run), "done");
        assert_eq!(run.stderr.lines().count(), 1, "{deed_}");
        assert!(run.stderr.len() < 16_384, "{deed_}: {} bytes", run.stderr.len());
    }
}

#[test]
fn guest_stdout_is_discarded() {
    let t = TestHost::new();
    for deed_ in ["print", "print-flood"] {
        let run = deed(&t, deed_, &[]);
        assert_eq!(value_of(&run), "done");
        assert!(run.stderr.is_empty(), "{deed_}: {}", run.stderr);
    }
}

//! Attacks on the log: injection, floods and oversized events.

use crate::run_attack::{arguments, attack, finish, value_of};
use e2e::TestHost;

/// An event keeps its fields, and line breaks and control characters are escaped.
#[test]
fn log_event_is_escaped() {
    let t = TestHost::new();
    let run = attack(&t, "log", &["to=me"]);
    assert_eq!(value_of(&run), "done");
    let lines: Vec<&str> = run.stderr.lines().collect();
    let [first, second] = lines.as_slice() else { panic!("{lines:?}") };
    for expected in ["WARN", r"something to say\n\u{1b}[31m answer=42 who=me", "source=attacker"] {
        assert!(first.contains(expected), "{expected}: {first}");
    }
    for expected in [r"from\r\n2026-01-01T00:00:00Z ERROR elsewhere\u{202e}", r"module=mod\nule"] {
        assert!(second.contains(expected), "{expected}: {second}");
    }
}

fn assert_logged_events(level: &str, expected: usize) {
    let t = TestHost::new();
    let run = finish(&t, &arguments("log-levels", &[]), &["--once", "--log-level", level]);
    let lines = run.stderr.lines().filter(|line| line.contains("source=attacker")).count();
    assert_eq!(lines, expected, "{}", run.stderr);
}

e2e::cases! {
    mod log_level_filters_guest_events: assert_logged_events {
        off("off", 0);
        error("error", 1);
        warn("warn", 2);
        info("info", 3);
        trace("trace", 5);
    }
}

#[test]
fn log_flood_is_rate_limited() {
    let t = TestHost::new();
    let run = attack(&t, "log-flood", &[]);
    assert_eq!(value_of(&run), "done");
    let lines = run.stderr.lines().count();
    assert!(lines < 2_000, "{lines} lines");
}

fn assert_one_short_line(attack_name: &str) {
    let run = attack(&TestHost::new(), attack_name, &[]);
    assert_eq!(value_of(&run), "done");
    assert_eq!(run.stderr.lines().count(), 1);
    assert!(run.stderr.len() < 16_384, "{} bytes", run.stderr.len());
}

e2e::cases! {
    mod oversized_log_event_is_truncated: assert_one_short_line {
        message_and_field("log-oversized");
        many_fields("log-many-fields");
    }
}

fn assert_nothing_printed(attack_name: &str) {
    let run = attack(&TestHost::new(), attack_name, &[]);
    // The value is the only line on standard output.
    assert_eq!(value_of(&run), "done");
    assert!(run.stderr.is_empty(), "{}", run.stderr);
}

e2e::cases! {
    mod guest_stdout_is_discarded: assert_nothing_printed {
        lines("print");
        flood("print-flood");
    }
}

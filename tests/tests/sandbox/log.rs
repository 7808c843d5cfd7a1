//! The log: what is said in it stays what it is, on its line, and is not too much.

use crate::{deed, finish, said};
use e2e::TestHost;

#[test]
fn events_arrive_with_their_fields_and_stay_on_their_line() {
    let t = TestHost::new();
    let run = deed(&t, "log", &["to=me"]);
    assert_eq!(said(&run), "said");
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
fn events_are_written_from_the_level_that_the_operator_wants() {
    let t = TestHost::new();
    for (level, expected) in [("off", 0), ("error", 1), ("warn", 2), ("info", 3), ("trace", 5)] {
        let run =
            finish(&t, &crate::arguments("log-levels", &[]), &["--once", "--log-level", level]);
        let lines = run.stderr.lines().filter(|line| line.contains("source=restless")).count();
        assert_eq!(lines, expected, "{level}: {}", run.stderr);
    }
}

#[test]
fn a_flood_of_events_is_dammed_and_counted() {
    let t = TestHost::new();
    let run = deed(&t, "log-flood", &[]);
    assert_eq!(said(&run), "said");
    let lines = run.stderr.lines().count();
    assert!(lines < 2_000, "{lines} lines");
}

#[test]
fn an_event_is_cut_where_it_is_too_long() {
    let t = TestHost::new();
    for deed_ in ["log-huge", "log-fields"] {
        let run = deed(&t, deed_, &[]);
        assert_eq!(said(&run), "said");
        assert_eq!(run.stderr.lines().count(), 1, "{deed_}");
        assert!(run.stderr.len() < 16_384, "{deed_}: {} bytes", run.stderr.len());
    }
}

#[test]
fn what_a_plugin_prints_is_seen_nowhere() {
    let t = TestHost::new();
    for deed_ in ["print", "print-flood"] {
        let run = deed(&t, deed_, &[]);
        assert_eq!(said(&run), "said");
        assert!(run.stderr.is_empty(), "{deed_}: {}", run.stderr);
    }
}

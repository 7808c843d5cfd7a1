//! Violations of the plugin interface.

use crate::{deed, fails, fails_with, start_deed, text, value_of};
use e2e::{TestHost, text_guest};
use std::time::Duration;

#[test]
fn invalid_result_is_reported() {
    let t = TestHost::new();
    fails(
        &deed(&t, "unchanged", &[]),
        "the plugin answered `unchanged` to a call without a cursor",
    );
    fails(&deed(&t, "removed", &[]), "the source has no value");
    for guest in ["invalid-outcome", "result-out-of-bounds", "invalid-utf8", "drop-invalid-handle"]
    {
        fails(&text(&t, guest, &[]), "the plugin");
    }
    assert_eq!(value_of(&deed(&t, "echo-cursor", &[])), "None", "no cursor before the first value");
    assert_eq!(value_of(&text(&t, "minimal", &[])), "x");
}

#[test]
fn cursor_is_returned_unchanged() {
    let t = TestHost::new();
    let mut run = start_deed(&t, "echo-cursor", &[], &["--interval", "20ms"]);
    run.wait_for_value("None");
    run.wait_for_value(r#"Some("seen")"#);
}

#[test]
fn control_characters_are_escaped() {
    let t = TestHost::new();
    let run = deed(&t, "control-characters", &[]);
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_eq!(run.text().lines().count(), 1);
    for odd in ['\u{1b}', '\0'] {
        assert!(!run.text().contains(odd), "{odd:?}");
    }
    let run = deed(&t, "control-characters-in-failure", &[]);
    fails(&run, r"odd\n\u{1b}[2J\u{0}\u{202e}\u{2066}\u{7f}\u{85}");
}

#[test]
fn panic_is_reported_with_location() {
    let t = TestHost::new();
    let run = deed(&t, "panic", &[]);
    fails(&run, "error: source `restless`: the plugin panicked: deliberate panic at ");
    fails(&run, "src/lib.rs:");
}

#[test]
fn trap_is_reported_in_plain_words() {
    let t = TestHost::new();
    fails(&deed(&t, "trap", &[]), "the plugin aborted (in `reload`)");
    fails(&deed(&t, "exit", &[]), "the plugin exited with status 0 during a call");
}

/// A configuration error after the first value does not remove the value.
#[test]
fn late_config_failure_keeps_value() {
    let t = TestHost::new();
    let mut run = start_deed(&t, "late-config-failure", &[], &["--interval", "20ms"]);
    run.wait_for_value("value 3");
    run.wait_for_log("error=`to` is invalid");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

/// The retry delay that a plugin requests is limited to one hour.
#[test]
fn retry_delay_of_plugin_is_capped() {
    let t = TestHost::new();
    fails_with(&deed(&t, "max-retry-delay", &[]), 1, "retry after the maximum delay");
    let run = start_deed(&t, "max-retry-delay", &[], &["--interval", "20ms"]);
    run.wait_for_log("retry_in=");
    assert!(run.stderr().contains("retry_in=1h"), "{}", run.stderr());
}

/// A source with an event flood is still read, publishes its values, and stops on SIGTERM.
#[test]
fn event_flood_does_not_block_source() {
    let t = TestHost::new();
    for (deed_, expected) in [("dirty", "here"), ("alive", "here"), ("same-value", "the same")] {
        let mut run = start_deed(&t, deed_, &["when=next"], &["--strategy", "realtime"]);
        run.wait_for_value(expected);
        assert_eq!(run.stop().code(), Some(0), "{deed_}: {}", run.stderr());
    }
    let mut run = start_deed(&t, "distinct-values", &["when=next"], &["--strategy", "realtime"]);
    let numbers = |value: &serde_json::Value| value["revision"].as_u64().unwrap();
    let first = numbers(&run.wait_for_event("changed"));
    let second = numbers(&run.wait_for_event("changed"));
    assert!(second > first);
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());

    for guest in ["event-flood", "periodic-memory-fill", "frequent-short-computation"] {
        let plugin = text_guest(guest).display().to_string();
        let mut run = t.run(&["run", "--plugin", &plugin, "--strategy", "realtime"]);
        run.wait_for_value("x");
        assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    }
}

/// A watch above the event rate limit is throttled, and the limit is logged once.
#[test]
fn event_rate_limit_is_logged_once() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime", "--limit", "events=20", "--interval", "20ms"];
    let mut run = start_deed(&t, "distinct-values", &["when=next"], &more);
    let expected = "too many watch events; limit `events` is 20 per second";
    run.wait_for_log(expected);
    // Events of three seconds.
    for _ in 0..60 {
        run.wait_for_event("changed");
    }
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    let stderr = run.stderr();
    let lines = stderr.lines().filter(|line| line.contains(expected) && !line.contains("count="));
    assert_eq!(lines.count(), 1, "{stderr}");
}

/// A source above the value byte rate limit is throttled, and the limit is logged once.
#[test]
fn value_rate_limit_is_logged_once() {
    let t = TestHost::new();
    let plugin = text_guest("large-values").display().to_string();
    let realtime = ["--strategy", "realtime", "--limit", "value-rate=16MiB"];
    let mut run = t.run(&[&["run", "--plugin", &plugin], &realtime[..]].concat());
    let expected = "values have too many bytes; limit `value-rate` is 16MiB per second";
    run.wait_for_log(expected);
    run.wait_for_event("changed");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    let stderr = run.stderr();
    let lines = stderr.lines().filter(|line| line.contains(expected) && !line.contains("count="));
    assert_eq!(lines.count(), 1, "{stderr}");
}

#[test]
fn repeated_removed_events_do_not_remove() {
    let t = TestHost::new();
    let mut run = start_deed(&t, "removed", &["when=next"], &["--strategy", "realtime"]);
    run.wait_for_value("here");
    // The watch reports `removed` while reads return `here`: the read is authoritative.
    std::thread::sleep(Duration::from_millis(1));
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

/// A plugin that crashes in each call keeps its last value, and the log does not repeat the
/// failure.
#[test]
fn repeated_crashes_are_logged_once() {
    let t = TestHost::new();
    let mut run = start_deed(&t, "trap-every-second-call", &[], &["--interval", "20ms"]);
    run.wait_for_value("not yet");
    run.wait_for_log("read recovered");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());

    let mut run = start_deed(&t, "trap", &["when=next"], &["--strategy", "realtime"]);
    run.wait_for_value("here");
    run.wait_for_log("source quarantined");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    let stderr = run.stderr();
    for once in ["failed", "watch failed", "watch recovered", "WARN source quarantined"] {
        assert_eq!(stderr.lines().filter(|line| line.contains(once)).count(), 1, "{stderr}");
    }
}

#[test]
fn incompatible_component_is_explained() {
    let t = TestHost::new();
    for (guest, expected) in [
        ("other-world", "not a plugin: the component exports neither"),
        (
            "newer-interface",
            "built for version 0.2.0 of the plugin interface; this host supports 0.1",
        ),
        ("no-functions", "reload"),
    ] {
        fails_with(&text(&t, guest, &[]), 2, expected);
    }
    fails_with(&text(&t, "other-types", &[]), 2, "do not have the types of the plugin interface");
}

//! Violations of the plugin interface.

use crate::run_attack::{attack, fails, fails_with, start_attack, text, value_of};
use e2e::{TestHost, text_guest};

fn assert_attack_fails(attack_name: &str, expected: &str) {
    fails(&attack(&TestHost::new(), attack_name, &[]), expected);
}

e2e::cases! {
    mod invalid_result_is_reported: assert_attack_fails {
        unchanged("unchanged", "the plugin answered `unchanged` to a call without a cursor");
        removed("removed", "value not found");
    }
}

fn assert_text_guest_fails(guest: &str) {
    fails(&text(&TestHost::new(), guest, &[]), "the plugin");
}

e2e::cases! {
    /// The guests return malformed results that no compiler of a plugin would produce.
    mod malformed_result_is_reported: assert_text_guest_fails {
        unknown_outcome("invalid-outcome");
        pointer_out_of_bounds("result-out-of-bounds");
        invalid_utf8("invalid-utf8");
        invalid_handle("drop-invalid-handle");
    }
}

#[test]
fn minimal_component_is_valid() {
    assert_eq!(value_of(&text(&TestHost::new(), "minimal", &[])), "x");
}

#[test]
fn first_call_has_no_cursor() {
    assert_eq!(value_of(&attack(&TestHost::new(), "echo-cursor", &[])), "None");
}

#[test]
fn cursor_is_returned_unchanged() {
    let t = TestHost::new();
    let mut run = start_attack(&t, "echo-cursor", &[], &["--interval", "20ms"]);
    run.wait_for_value("None");
    run.wait_for_value(r#"Some("seen")"#);
}

#[test]
fn control_characters_of_value_are_escaped() {
    let run = attack(&TestHost::new(), "control-characters", &[]);
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_eq!(run.text().lines().count(), 1);
    for odd in ['\u{1b}', '\0'] {
        assert!(!run.text().contains(odd), "{odd:?}");
    }
}

#[test]
fn control_characters_of_failure_are_escaped() {
    let run = attack(&TestHost::new(), "control-characters-in-failure", &[]);
    fails(&run, r"odd\n\u{1b}[2J\u{0}\u{202e}\u{2066}\u{7f}\u{85}");
}

#[test]
fn panic_is_reported_with_location() {
    let t = TestHost::new();
    let run = attack(&t, "panic", &[]);
    fails(&run, "error: source `attacker`: the plugin panicked: deliberate panic at ");
    fails(&run, "src/plugin.rs:");
}

e2e::cases! {
    mod abort_is_reported_in_plain_words: assert_attack_fails {
        trap("trap", "the plugin aborted (in `reload`)");
        exit("exit", "the plugin exited with status 0 during a call");
    }
}

/// A configuration error after the first value does not remove the value.
#[test]
fn late_config_failure_keeps_value() {
    let t = TestHost::new();
    let mut run = start_attack(&t, "late-config-failure", &[], &["--interval", "20ms"]);
    run.wait_for_value("value 3");
    run.wait_for_log("error=`to` is invalid");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

/// The retry delay that a plugin requests is limited to one hour.
#[test]
fn retry_delay_of_plugin_is_capped() {
    let t = TestHost::new();
    fails_with(&attack(&t, "max-retry-delay", &[]), 1, "retry after the maximum delay");
    let run = start_attack(&t, "max-retry-delay", &[], &["--interval", "20ms"]);
    run.wait_for_log("retry_in=");
    assert!(run.stderr().contains("retry_in=1h"), "{}", run.stderr());
}

fn assert_flooded_source_works(attack_name: &str, expected: &str) {
    let t = TestHost::new();
    let mut run = start_attack(&t, attack_name, &["when=next"], &["--strategy", "realtime"]);
    run.wait_for_value(expected);
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

e2e::cases! {
    /// A source with an event flood is still read, publishes its values, and stops on SIGTERM.
    mod event_flood_does_not_block_source: assert_flooded_source_works {
        dirty("dirty", "here");
        alive("alive", "here");
        same_value("same-value", "the same");
    }
}

#[test]
fn flood_of_distinct_values_is_published() {
    let t = TestHost::new();
    let realtime = ["--strategy", "realtime"];
    let mut run = start_attack(&t, "distinct-values", &["when=next"], &realtime);
    let revision = |value: &serde_json::Value| value["revision"].as_u64().unwrap();
    let first = revision(&run.wait_for_event("changed"));
    let second = revision(&run.wait_for_event("changed"));
    assert!(second > first);
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

fn assert_flooding_text_guest_works(guest: &str) {
    let t = TestHost::new();
    let plugin = text_guest(guest).display().to_string();
    let mut run = t.run(&["run", "--plugin", &plugin, "--strategy", "realtime"]);
    run.wait_for_value("x");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

e2e::cases! {
    mod flooding_text_guest_does_not_block_source: assert_flooding_text_guest_works {
        events("event-flood");
        memory_fills("periodic-memory-fill");
        computations("frequent-short-computation");
    }
}

/// A watch that exceeds the limit of events per second is throttled, and the limit is logged once.
#[test]
fn event_rate_limit_is_logged_once() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime", "--limit", "events=20", "--interval", "20ms"];
    let mut run = start_attack(&t, "distinct-values", &["when=next"], &more);
    let expected = "too many watch events; limit `events` is 20 per second";
    run.wait_for_log(expected);
    // These events take three seconds at 20 events per second. The host must not log the limit again.
    for _ in 0..60 {
        run.wait_for_event("changed");
    }
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    let stderr = run.stderr();
    let lines = stderr.lines().filter(|line| line.contains(expected) && !line.contains("count="));
    assert_eq!(lines.count(), 1, "{stderr}");
}

/// A source whose values exceed the limit of bytes per second is throttled, and the limit is logged once.
#[test]
fn value_rate_limit_is_logged_once() {
    let t = TestHost::new();
    let plugin = text_guest("large-values").display().to_string();
    let realtime = ["--strategy", "realtime", "--limit", "value-rate=16MiB"];
    let mut run = t.run(&[&["run", "--plugin", &plugin], &realtime[..]].concat());
    let expected = "too many bytes of values; limit `value-rate` is 16MiB per second";
    run.wait_for_log(expected);
    run.wait_for_event("changed");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    let stderr = run.stderr();
    let lines = stderr.lines().filter(|line| line.contains(expected) && !line.contains("count="));
    assert_eq!(lines.count(), 1, "{stderr}");
}

/// The watch reports removals, while each read returns the value `here`. The host trusts the reads and keeps the value.
#[test]
fn repeated_removed_events_do_not_remove() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime"];
    let mut run = start_attack(&t, "removed", &["when=next"], &more);
    run.wait_for_value("here");
    run.wait_for_log("too many watch events");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    assert_eq!(run.remaining_lines(), [""; 0], "the value was removed or changed");
}

/// The source of a plugin that crashes in every second call recovers with a new instance after each crash.
#[test]
fn crashed_reads_recover() {
    let t = TestHost::new();
    let mut run = start_attack(&t, "trap-every-second-call", &[], &["--interval", "20ms"]);
    run.wait_for_value("not yet");
    run.wait_for_log("read recovered");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

/// A source whose watch crashes in each call keeps its last value, and the log does not repeat the
/// failure.
#[test]
fn repeated_crashes_are_logged_once() {
    let t = TestHost::new();
    let mut run = start_attack(&t, "trap", &["when=next"], &["--strategy", "realtime"]);
    run.wait_for_value("here");
    run.wait_for_log("source quarantined");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    let stderr = run.stderr();
    for once in ["failed", "watch failed", "watch recovered", "WARN source quarantined"] {
        assert_eq!(stderr.lines().filter(|line| line.contains(once)).count(), 1, "{stderr}");
    }
}

fn assert_incompatible(guest: &str, expected: &str) {
    fails_with(&text(&TestHost::new(), guest, &[]), 2, expected);
}

e2e::cases! {
    mod incompatible_component_is_explained: assert_incompatible {
        other_world("other-world", "not a plugin: the component exports neither");
        newer_interface(
            "newer-interface",
            "built for version 0.2.0 of the plugin interface; this host supports 0.1",
        );
        no_functions("no-functions", "reload");
        other_types("other-types", "do not have the types of the plugin interface");
    }
}

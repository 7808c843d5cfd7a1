//! Answers that nobody expects.

use crate::{deed, fails, fails_with, keep_at, said, text};
use e2e::{TestHost, text_guest};
use std::time::Duration;

#[test]
fn an_answer_that_cannot_be_is_named() {
    let t = TestHost::new();
    fails(&deed(&t, "unchanged", &[]), "the plugin answered `unchanged` although it was not told");
    fails(&deed(&t, "removed", &[]), "there is no value");
    for guest in ["odd-answer", "wild-answer", "bad-text", "drop-twice"] {
        fails(&text(&t, guest, &[]), "the plugin");
    }
    assert_eq!(said(&deed(&t, "known", &[])), "None", "nothing is known yet");
    assert_eq!(said(&text(&t, "quiet", &[])), "x");
}

#[test]
fn a_cursor_is_handed_back_as_it_was() {
    let t = TestHost::new();
    let mut run = keep_at(&t, "known", &[], &["--interval", "20ms"]);
    run.wait_for_value("None");
    run.wait_for_value(r#"Some("seen")"#);
}

#[test]
fn odd_strings_say_nothing_to_a_terminal() {
    let t = TestHost::new();
    let run = deed(&t, "odd-strings", &[]);
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_eq!(run.text().lines().count(), 1);
    for odd in ['\u{1b}', '\0'] {
        assert!(!run.text().contains(odd), "{odd:?}");
    }
    let run = deed(&t, "odd-failure", &[]);
    fails(&run, r"odd\n\u{1b}[2J\u{0}\u{202e}\u{2066}\u{7f}\u{85}");
}

#[test]
fn a_panic_arrives_with_its_message_and_place() {
    let t = TestHost::new();
    let run = deed(&t, "panic", &[]);
    fails(&run, "error: source `restless`: the plugin panicked: that was to be expected at ");
    fails(&run, "src/lib.rs:");
}

#[test]
fn a_trap_is_said_in_words() {
    let t = TestHost::new();
    fails(&deed(&t, "trap", &[]), "the plugin ended itself (in `reload`)");
    fails(&deed(&t, "exit", &[]), "the plugin has exited, with status 0, instead of answering");
}

#[test]
fn settings_that_turn_out_to_be_wrong_later_cost_no_value() {
    let t = TestHost::new();
    let mut run = keep_at(&t, "config-later", &[], &["--interval", "20ms"]);
    run.wait_for_value("value 3");
    run.wait_for_log("reading failed: on second thoughts, `to` is wrong");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

#[test]
fn who_asks_never_to_be_called_again_is_called_again_some_day() {
    let t = TestHost::new();
    fails_with(&deed(&t, "never-again", &[]), 1, "not before the sun dies");
    let run = keep_at(&t, "never-again", &[], &["--interval", "20ms"]);
    run.wait_for_log("retry_in=");
    assert!(run.stderr().contains("retry_in=1h"), "{}", run.stderr());
}

/// A source whose watch has something to say all the time is read, its values arrive, and it stops
/// when it is told to.
#[test]
fn a_watch_that_never_pauses_is_kept_up_with() {
    let t = TestHost::new();
    for (deed_, expected) in [("dirty", "here"), ("alive", "here"), ("same", "the same")] {
        let mut run = keep_at(&t, deed_, &["when=next"], &["--strategy", "realtime"]);
        run.wait_for_value(expected);
        assert_eq!(run.stop().code(), Some(0), "{deed_}: {}", run.stderr());
    }
    let mut run = keep_at(&t, "distinct", &["when=next"], &["--strategy", "realtime"]);
    let numbers = |value: &serde_json::Value| value["revision"].as_u64().unwrap();
    let first = numbers(&run.wait_for_event("changed"));
    let second = numbers(&run.wait_for_event("changed"));
    assert!(second > first);
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());

    for guest in ["next-at-once", "fill-at-times", "a-little-often"] {
        let plugin = text_guest(guest).display().to_string();
        let mut run = t.run(&["run", "--plugin", &plugin, "--strategy", "realtime"]);
        run.wait_for_value("x");
        assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    }
}

#[test]
fn a_watch_that_says_too_much_is_slowed_down_and_its_operator_is_told_the_limit_once() {
    let t = TestHost::new();
    let more = ["--strategy", "realtime", "--limit", "events=20", "--interval", "20ms"];
    let mut run = keep_at(&t, "distinct", &["when=next"], &more);
    let told = "the watch says too much, and it is slowed down: limit `events` is 20 a second";
    run.wait_for_log(told);
    // Three seconds' worth of them.
    for _ in 0..60 {
        run.wait_for_event("changed");
    }
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    let stderr = run.stderr();
    let lines = stderr.lines().filter(|line| line.contains(told) && !line.contains(" times"));
    assert_eq!(lines.count(), 1, "{stderr}");
}

#[test]
fn values_of_many_bytes_slow_their_source_down_and_its_operator_is_told_the_limit_once() {
    let t = TestHost::new();
    let plugin = text_guest("large-values").display().to_string();
    let realtime = ["--strategy", "realtime", "--limit", "value-rate=16MiB"];
    let mut run = t.run(&[&["run", "--plugin", &plugin], &realtime[..]].concat());
    let told = "the values are too many bytes, and it is slowed down: limit `value-rate` is 16MiB a second";
    run.wait_for_log(told);
    run.wait_for_event("changed");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    let stderr = run.stderr();
    let lines = stderr.lines().filter(|line| line.contains(told) && !line.contains(" times"));
    assert_eq!(lines.count(), 1, "{stderr}");
}

#[test]
fn what_is_removed_again_and_again_is_removed_once() {
    let t = TestHost::new();
    let mut run = keep_at(&t, "removed", &["when=next"], &["--strategy", "realtime"]);
    run.wait_for_value("here");
    // It says "removed", and reads "here": the source itself is believed.
    std::thread::sleep(Duration::from_millis(1));
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
}

#[test]
fn who_crashes_in_each_call_is_told_of_once_and_keeps_its_last_value() {
    let t = TestHost::new();
    let mut run = keep_at(&t, "trap-later", &[], &["--interval", "20ms"]);
    run.wait_for_value("not yet");
    run.wait_for_log("the source answers again");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());

    let mut run = keep_at(&t, "trap", &["when=next"], &["--strategy", "realtime"]);
    run.wait_for_value("here");
    run.wait_for_log("in quarantine");
    assert_eq!(run.stop().code(), Some(0), "{}", run.stderr());
    let stderr = run.stderr();
    for once in ["failed", "watching failed", "watching again", "WARN watching is in quarantine"] {
        assert_eq!(stderr.lines().filter(|line| line.contains(once)).count(), 1, "{stderr}");
    }
}

#[test]
fn a_component_of_another_kind_is_named_for_what_it_is() {
    let t = TestHost::new();
    for (guest, expected) in [
        ("other-world", "it is a component of another world"),
        ("newer", "it was built for version 0.2.0 of the interface; this host speaks 0.1"),
        ("no-functions", "reload"),
    ] {
        fails_with(&text(&t, guest, &[]), 2, expected);
    }
    fails_with(&text(&t, "other-types", &[]), 2, "not of the types that the interface has");
}

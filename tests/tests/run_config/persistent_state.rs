//! State store: restarts, history, rollback and recovery from corruption.

use crate::config_text_helpers::{source, to_file};
use e2e::{Finished, TestHost, wait_until};
use std::{fs, os::unix::fs::PermissionsExt};

fn with_state(config: &str) -> String {
    format!("[state]\npath = \"state\"\n{config}")
}

fn text(t: &TestHost, name: &str) -> String {
    fs::read_to_string(t.path(name)).unwrap()
}

fn succeeded(finished: &Finished) -> String {
    assert_eq!(finished.status, Some(0), "{}", finished.stderr);
    String::from_utf8_lossy(&finished.stdout).into_owned()
}

/// Prevents spring-cloud-config#157: no value at startup while the server is unavailable.
#[test]
fn last_good_value_survives_restart() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("reloader.toml", with_state(&source("a", &to_file("a.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    t.replace("a.in", "2");
    t.wait_for_file("a.out", "2");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let mode = |name: &str| fs::metadata(t.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("state"), 0o700);
    fs::remove_file(t.path("a.in")).unwrap();
    fs::remove_file(t.path("a.out")).unwrap();
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "2");
    t.write("a.in", "3");
    t.wait_for_file("a.out", "3");
    let history = succeeded(&t.finish(&["history", "a", "--json"]));
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let revisions: Vec<_> =
        history.as_array().unwrap().iter().map(|entry| entry["revision"].as_u64()).collect();
    assert_eq!(revisions, [Some(3), Some(2), Some(1)]);
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// Prevents stakater/Reloader#1089: a restart repeated all deliveries.
#[test]
fn restart_does_not_repeat_deliveries() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let exec =
        "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo run >> runs\"]\n";
    // The file of another source shows that the host delivers.
    t.write("b.in", "1");
    let sources = source("a", exec) + &source("b", &to_file("b.out"));
    t.write("reloader.toml", with_state(&sources));
    for _ in 0..3 {
        let _ = fs::remove_file(t.path("b.out"));
        let mut host = t.run(&["run", "--config", "reloader.toml"]);
        t.wait_for_file("b.out", "1");
        t.wait_for_file("runs", "run\n");
        assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    }
    assert_eq!(fs::read_to_string(t.path("runs")).unwrap(), "run\n");
}

#[test]
fn rollback_survives_restart_until_resumed() {
    let t = TestHost::new();
    t.write("a.in", "good");
    t.write("reloader.toml", with_state(&source("a", &to_file("a.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "good");
    t.replace("a.in", "bad");
    t.wait_for_file("a.out", "bad");
    assert_eq!(succeeded(&t.finish(&["history", "a", "--show", "1"])), "good");
    let message = succeeded(&t.finish(&["rollback", "a"]));
    assert!(message.contains("revision 1") && message.contains("host resume a"), "{message}");
    t.wait_for_file("a.out", "good");
    t.replace("a.in", "worse");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the control socket", || t.path("state/control.sock").exists());
    t.wait_for_file("a.out", "good");
    // `host resume` finds the control socket also by a configuration file that the host has rejected.
    let config = text(&t, "reloader.toml");
    t.replace("reloader.toml", format!("{config}[sauce]\n"));
    host.wait_for_log("configuration reload failed");
    succeeded(&t.finish(&["resume", "a"]));
    t.wait_for_file("a.out", "worse");
    t.replace("reloader.toml", config);
    let rollback = t.finish(&["rollback", "a", "--to", "99"]);
    let (status, message) = rollback.status_and_error();
    assert!(status == Some(1) && message.contains("99"), "{message}");
    let unknown = t.finish(&["history", "b"]);
    let (status, message) = unknown.status_and_error();
    assert!(
        status == Some(1) && message.contains("source `b` not found; available: `a`"),
        "{message}"
    );
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let unreachable = t.finish(&["history", "a"]);
    let (status, message) = unreachable.status_and_error();
    assert!(status == Some(1) && message.contains("cannot connect to the host at"), "{message}");
}

#[test]
fn repeated_rollback_goes_further_back() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("reloader.toml", with_state(&source("a", &to_file("a.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    for value in ["2", "3"] {
        t.replace("a.in", value);
        t.wait_for_file("a.out", value);
    }
    let message = succeeded(&t.finish(&["resume", "a"]));
    assert!(message.contains("not pinned"), "{message}");
    for value in ["2", "1"] {
        succeeded(&t.finish(&["rollback", "a"]));
        t.wait_for_file("a.out", value);
        let history = succeeded(&t.finish(&["history", "a"]));
        assert!(history.contains(&format!("pinned to revision {value}")), "{history}");
        assert_eq!(history.matches(", pinned").count(), 1, "{history}");
    }
    let rollback = t.finish(&["rollback", "a"]);
    let (status, message) = rollback.status_and_error();
    assert!(status == Some(1) && message.contains("no earlier value"), "{message}");
    succeeded(&t.finish(&["resume", "a"]));
    t.wait_for_file("a.out", "3");
    assert!(!succeeded(&t.finish(&["history", "a"])).contains("pinned"));
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn damaged_state_database_is_moved_aside() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("reloader.toml", with_state(&source("a", &to_file("a.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    host.stop();
    let file = fs::read_dir(t.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "redb"))
        .unwrap();
    fs::write(&file, b"nonsense").unwrap();
    t.replace("a.in", "2");
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "2");
    host.wait_for_log("state database unusable, starting with an empty one");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn state_is_locked_by_one_host() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("reloader.toml", with_state(&source("a", &to_file("a.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    let second = t.finish(&["run", "--config", "reloader.toml"]);
    let (status, message) = second.status_and_error();
    assert!(status == Some(1) && message.contains("another host"), "{message}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// The value of a source with `store = false` is never written to disk, and a restart does not
/// deliver the missing value as a removal.
#[test]
fn unstored_value_never_reaches_disk() {
    let t = TestHost::new();
    t.write("a.in", "hunter1");
    let sink = "[[source.sink]]\ntype = \"file\"\npath = \"a.out\"\non-removed = \"clear\"\n";
    let config = with_state(&source("a", sink));
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "hunter1");
    t.replace("reloader.toml", config.replace("plugin =", "store = false\nplugin ="));
    host.wait_for_log("configuration reloaded");
    t.replace("a.in", "hunter2");
    t.wait_for_file("a.out", "hunter2");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let kept = fs::read(t.path("state/state.redb")).unwrap();
    assert!(!kept.windows(7).any(|part| part == b"hunter2"), "the value is in the state database");
    // A directory in place of the file makes reads fail.
    fs::remove_file(t.path("a.in")).unwrap();
    fs::create_dir(t.path("a.in")).unwrap();
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("a.in");
    assert_eq!(text(&t, "a.out"), "hunter2");
    fs::remove_dir(t.path("a.in")).unwrap();
    t.write("a.in", "hunter3");
    t.wait_for_file("a.out", "hunter3");
    let history = succeeded(&t.finish(&["history", "a", "--json"]));
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    assert_eq!(history[0]["revision"], 3, "{history}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// Prevents stakater/Reloader#1089: all commands ran again after a restart.
#[test]
fn restart_does_not_rerun_group_command() {
    let t = TestHost::new();
    for name in ["a", "b"] {
        t.write(&format!("{name}.in"), "1");
    }
    let group = "[[group]]\nname = \"both\"\nsources = [\"a\", \"b\"]\n\
                 [[group.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"cat b.in >> runs\"]\n";
    let config = with_state(&(source("a", "") + &source("b", &to_file("b.out")) + group));
    t.write("reloader.toml", config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("runs", "1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the control socket", || t.path("state/control.sock").exists());
    t.replace("b.in", "2");
    t.wait_for_file("runs", "12");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

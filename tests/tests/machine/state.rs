//! What survives a restart, and how to go back.

use super::delivery::{source, to_file};
use e2e::{Finished, TestHost, wait_until};
use std::{fs, os::unix::fs::PermissionsExt};

fn with_state(config: &str) -> String {
    format!("[state]\npath = \"state\"\n{config}")
}

fn text(t: &TestHost, name: &str) -> String {
    fs::read_to_string(t.path(name)).unwrap()
}

fn fine(finished: &Finished) -> String {
    assert_eq!(finished.status, Some(0), "{}", finished.stderr);
    String::from_utf8_lossy(&finished.stdout).into_owned()
}

/// spring-cloud-config#157: nothing to start with while the server is away.
#[test]
fn the_last_good_value_is_there_at_once_after_a_restart_though_its_source_is_gone() {
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
    let history = fine(&t.finish(&["history", "a", "--json"]));
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let revisions: Vec<_> =
        history.as_array().unwrap().iter().map(|entry| entry["revision"].as_u64()).collect();
    assert_eq!(revisions, [Some(3), Some(2), Some(1)]);
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// stakater/Reloader#1089: a restart reloaded everything.
#[test]
fn what_has_been_delivered_is_not_delivered_again_after_a_restart() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let exec =
        "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo run >> runs\"]\n";
    t.write("reloader.toml", with_state(&source("a", &format!("{exec}{}", to_file("a.out")))));
    for _ in 0..3 {
        let _ = fs::remove_file(t.path("a.out"));
        let mut host = t.run(&["run", "--config", "reloader.toml"]);
        t.wait_for_file("a.out", "1");
        t.wait_for_file("runs", "run\n");
        assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    }
    assert_eq!(fs::read_to_string(t.path("runs")).unwrap(), "run\n");
}

#[test]
fn a_bad_value_is_rolled_back_and_stays_so_over_a_restart_until_it_is_resumed() {
    let t = TestHost::new();
    t.write("a.in", "good");
    t.write("reloader.toml", with_state(&source("a", &to_file("a.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "good");
    t.replace("a.in", "bad");
    t.wait_for_file("a.out", "bad");
    assert_eq!(fine(&t.finish(&["history", "a", "--show", "1"])), "good");
    let said = fine(&t.finish(&["rollback", "a"]));
    assert!(said.contains("revision 1") && said.contains("host resume a"), "{said}");
    t.wait_for_file("a.out", "good");
    t.replace("a.in", "worse");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("it listens", || t.path("state/control.sock").exists());
    t.wait_for_file("a.out", "good");
    // The running host has refused it, and is asked all the same.
    let config = text(&t, "reloader.toml");
    t.replace("reloader.toml", format!("{config}[sauce]\n"));
    host.wait_for_log("everything goes on as it was");
    fine(&t.finish(&["resume", "a"]));
    t.wait_for_file("a.out", "worse");
    t.replace("reloader.toml", config);
    let complaint = t.finish(&["rollback", "a", "--to", "99"]);
    let (status, said) = complaint.complaint();
    assert!(status == Some(1) && said.contains("99"), "{said}");
    let unknown = t.finish(&["history", "b"]);
    let (status, said) = unknown.complaint();
    assert!(status == Some(1) && said.contains("there is no source `b`; there is `a`"), "{said}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let nobody = t.finish(&["history", "a"]);
    let (status, said) = nobody.complaint();
    assert!(status == Some(1) && said.contains("no host listens at"), "{said}");
}

#[test]
fn each_rollback_goes_further_back_and_the_history_says_where_it_is() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("reloader.toml", with_state(&source("a", &to_file("a.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    for value in ["2", "3"] {
        t.replace("a.in", value);
        t.wait_for_file("a.out", value);
    }
    let said = fine(&t.finish(&["resume", "a"]));
    assert!(said.contains("not pinned"), "{said}");
    for value in ["2", "1"] {
        fine(&t.finish(&["rollback", "a"]));
        t.wait_for_file("a.out", value);
        let history = fine(&t.finish(&["history", "a"]));
        assert!(history.contains(&format!("pinned to revision {value}")), "{history}");
        assert_eq!(history.matches(", pinned").count(), 1, "{history}");
    }
    let complaint = t.finish(&["rollback", "a"]);
    let (status, said) = complaint.complaint();
    assert!(status == Some(1) && said.contains("no earlier value"), "{said}");
    fine(&t.finish(&["resume", "a"]));
    t.wait_for_file("a.out", "3");
    assert!(!fine(&t.finish(&["history", "a"])).contains("pinned"));
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn a_broken_state_is_set_aside_and_begun_anew() {
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
    host.wait_for_log("is begun anew");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn two_hosts_do_not_share_a_state() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("reloader.toml", with_state(&source("a", &to_file("a.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    let second = t.finish(&["run", "--config", "reloader.toml"]);
    let (status, said) = second.complaint();
    assert!(status == Some(1) && said.contains("another host"), "{said}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn what_is_not_stored_is_not_taken_for_removed_after_a_restart_and_never_reaches_the_disk() {
    let t = TestHost::new();
    t.write("a.in", "hunter1");
    let sink = "[[source.sink]]\ntype = \"file\"\npath = \"a.out\"\non-removed = \"clear\"\n";
    let config = with_state(&source("a", sink));
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "hunter1");
    t.replace("reloader.toml", config.replace("plugin =", "store = false\nplugin ="));
    host.wait_for_log("the new configuration is in use");
    t.replace("a.in", "hunter2");
    t.wait_for_file("a.out", "hunter2");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let kept = fs::read(t.path("state/state.redb")).unwrap();
    assert!(!kept.windows(7).any(|part| part == b"hunter2"), "it is on the disk");
    // Its source does not answer: it is a directory now.
    fs::remove_file(t.path("a.in")).unwrap();
    fs::create_dir(t.path("a.in")).unwrap();
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("a.in");
    assert_eq!(text(&t, "a.out"), "hunter2");
    fs::remove_dir(t.path("a.in")).unwrap();
    t.write("a.in", "hunter3");
    t.wait_for_file("a.out", "hunter3");
    let history = fine(&t.finish(&["history", "a", "--json"]));
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    assert_eq!(history[0]["revision"], 3, "{history}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// stakater/Reloader#1089: everything runs again after a restart.
#[test]
fn the_command_of_a_group_does_not_run_again_after_a_restart() {
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
    wait_until("it listens", || t.path("state/control.sock").exists());
    t.replace("b.in", "2");
    t.wait_for_file("runs", "12");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

//! A running host's configuration changes, and so do its plugins.

use super::delivery::{source, to_file};
use e2e::{PATIENCE, TestHost, wait_until};
use std::{fs, net::TcpListener, time::Instant};

fn text(t: &TestHost, name: &str) -> String {
    fs::read_to_string(t.path(name)).unwrap_or_default()
}

#[test]
fn only_what_has_changed_is_touched() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("b.in", "1");
    let exec =
        "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo run >> runs\"]\n";
    let a = source("a", exec);
    t.write("reloader.toml", a.clone() + &source("b", &to_file("b.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("b.out", "1");
    t.wait_for_file("runs", "run\n");
    t.write("c.in", "1");
    t.replace(
        "reloader.toml",
        a + &source("b", &to_file("b2.out")) + &source("c", &to_file("c.out")),
    );
    host.hang_up();
    t.wait_for_file("b2.out", "1");
    t.wait_for_file("c.out", "1");
    t.replace("b.in", "2");
    t.wait_for_file("b2.out", "2");
    assert_eq!(text(&t, "b.out"), "1", "that sink is gone");
    assert_eq!(text(&t, "runs"), "run\n", "and `a` was left alone");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn a_changed_file_is_noticed_and_one_that_is_wrong_is_refused() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let config = source("a", &to_file("a.out"));
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    t.replace("reloader.toml", format!("{config}[[source.sink]]\ntyp = \"file\"\n"));
    host.wait_for_log("everything goes on as it was");
    t.replace("reloader.toml", "");
    host.wait_for_log("there is no `[[source]]`");
    t.replace("a.in", "2");
    t.wait_for_file("a.out", "2");
    t.replace("reloader.toml", format!("{config}{}", to_file("a2.out")));
    t.wait_for_file("a2.out", "2");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn other_settings_take_over_without_a_gap_and_are_taken_back_if_they_do_not_work() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("other.in", "other");
    let config = source("a", &to_file("a.out"));
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    t.replace("reloader.toml", config.replace("a.in", "."));
    host.wait_for_log("goes on as it was");
    t.replace("a.in", "2");
    t.wait_for_file("a.out", "2");
    t.replace("reloader.toml", config.replace("a.in", "other.in"));
    t.wait_for_file("a.out", "other");
    let history = t.finish(&["history", "a", "--json"]);
    let history: serde_json::Value = serde_json::from_slice(&history.stdout).unwrap();
    assert_eq!(history[0]["revision"], 3, "revisions go on: {history}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn a_plugin_is_swapped_while_it_runs_and_a_broken_one_is_not() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let exported = t.finish(&["plugins", "export", "file", "--output", "mine.wasm"]);
    assert_eq!(exported.status, Some(0), "{}", exported.stderr);
    let config =
        source("a", &to_file("a.out")).replace("\"file\"\nconfig", "\"./mine.wasm\"\nconfig");
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    let good = fs::read(t.path("mine.wasm")).unwrap();
    t.replace("mine.wasm", b"not a component");
    host.wait_for_log("goes on as it was");
    t.replace("a.in", "2");
    t.wait_for_file("a.out", "2");
    // The same, with another custom section: another component.
    t.replace("mine.wasm", e2e::with_section(good, "note", b"new"));
    host.wait_for_log("goes on with another plugin");
    t.replace("a.in", "3");
    t.wait_for_file("a.out", "3");
    wait_until("it is told", || host.stderr().contains("sha256"));
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn what_is_tried_and_does_not_answer_holds_up_neither_the_old_one_nor_people_nor_the_end() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    t.write("reloader.toml", source("a", &to_file("a.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    let tried = format!(
        "[[source]]\nname = \"a\"\nplugin = \"http\"\nconfig.url = \"{url}\"\n{}",
        to_file("a.out")
    );
    t.replace("reloader.toml", tried);
    let _asked = silent.accept().unwrap();
    t.replace("a.in", "2");
    t.wait_for_file("a.out", "2");
    let history = t.finish(&["history", "a"]);
    assert_eq!(history.status, Some(0), "{history:?}");
    let stopping = Instant::now();
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert!(stopping.elapsed() < PATIENCE / 2, "{}", host.stderr());
}

#[test]
fn a_source_that_has_ended_begins_anew_when_its_settings_can_work() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let other = source("b", "");
    let config = source("a", &to_file("a.out")) + &other;
    let impossible = "plugin = \"kvs\"\nconfig = { url = \"redis://127.0.0.1:1\" }\n";
    let impossible = format!("[[source]]\nname = \"a\"\n{impossible}{}{other}", to_file("a.out"));
    t.write("reloader.toml", impossible);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("has ended: set exactly one of");
    t.replace("reloader.toml", config);
    t.wait_for_file("a.out", "1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn what_is_the_hosts_own_affair_changes_at_once_whether_the_source_answers_or_not() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let dead = "[[source]]\nname = \"dead\"\nplugin = \"kvs\"\n\
                config = { url = \"redis://127.0.0.1:1\", key = \"x\" }\n";
    let rest = "[command]\ncommand = [\"sh\", \"-c\", \"touch started; exec sleep 3600\"]\n";
    let config = format!("{dead}{}{rest}", source("a", &to_file("a.out")));
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    assert!(!t.path("started").exists(), "it waits for `dead`");
    t.replace("reloader.toml", config.replace("\"kvs\"\n", "\"kvs\"\nrequired = false\n"));
    t.wait_for_file("started", "");
    assert_eq!(host.stop().code(), Some(143), "{}", host.stderr());
}

#[test]
fn a_command_does_not_run_again_because_another_one_stands_before_it() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let exec = |file: &str| {
        format!(
            "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo run >> {file}\"]\n"
        )
    };
    t.write("reloader.toml", source("a", &exec("old")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("old", "run\n");
    t.replace("reloader.toml", source("a", &(exec("new") + &exec("old"))));
    t.wait_for_file("new", "run\n");
    host.wait_for_log("the new configuration is in use");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert_eq!(text(&t, "old"), "run\n");
}

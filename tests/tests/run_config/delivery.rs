//! Delivery to sinks, groups and the command, tested through the program.

use crate::config_text_helpers::{source, to_file};
use e2e::{TestHost, wait_until};
use std::{fs, os::unix::fs::PermissionsExt};

#[test]
fn file_sink_writes_each_change() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let sink = "[[source.sink]]\ntype = \"file\"\npath = \"app.out\"\nmode = \"0640\"\n";
    t.write("reloader.toml", source("app", sink));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "one");
    let mode = fs::metadata(t.path("app.out")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    t.replace("app.in", "two");
    t.wait_for_file("app.out", "two");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// Prevents vault#26283: a failing template restarted and delayed the other templates.
#[test]
fn failing_or_slow_sink_delays_no_other() {
    let t = TestHost::new();
    t.write("app.in", "one");
    t.write("other.in", "1");
    let sinks = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"false\"]\n\
                 [[source.sink]]\ntype = \"exec\"\ncommand = [\"sleep\", \"3600\"]\n\
                 [[source.sink]]\ntype = \"file\"\npath = \"no/such/directory/x\"\n";
    let app = source("app", &format!("{sinks}{}", to_file("app.out")));
    t.write("reloader.toml", app + &source("other", &to_file("other.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    for value in ["two", "three", "four"] {
        t.replace("app.in", value);
        t.replace("other.in", value);
        t.wait_for_file("app.out", value);
        t.wait_for_file("other.out", value);
    }
    // The shutdown must not wait for the slow sink, whose command takes one hour.
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// Prevents consul-template#1006 and #2030: the command ran once for each of N files, and again
/// later.
#[test]
fn group_command_runs_once_per_burst() {
    let t = TestHost::new();
    let names = ["a", "b", "c"];
    let mut config: String =
        names.iter().map(|name| source(name, &to_file(&format!("{name}.out")))).collect();
    config += "[[group]]\nname = \"all\"\nsources = [\"a\", \"b\", \"c\"]\nwait = { min = \"300ms\", max = \"5s\" }\n\
               [[group.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo run >> runs\"]\n";
    t.write("reloader.toml", config);
    t.write("a.in", "1");
    t.write("b.in", "1");
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    t.wait_for_file("b.out", "1");
    assert!(!t.path("runs").exists(), "the command waits for the value of `c`");
    t.write("c.in", "1");
    t.wait_for_file("runs", "run\n");
    for name in names {
        t.replace(&format!("{name}.in"), "2");
    }
    t.wait_for_file("runs", "run\nrun\n");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert_eq!(fs::read_to_string(t.path("runs")).unwrap(), "run\nrun\n");
}

/// Prevents prometheus-operator#4708: after a bad value, the previous good value was not applied
/// again.
#[test]
fn rejected_value_keeps_last_good_value() {
    let t = TestHost::new();
    t.write("app.in", r#"{"port":1}"#);
    let rest = format!("validate = {{ parse = \"json\" }}\n{}", to_file("app.out"));
    t.write("reloader.toml", source("app", &rest));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", r#"{"port":1}"#);
    t.replace("app.in", r#"{"port":"#);
    host.wait_for_log("new value rejected");
    assert_eq!(fs::read_to_string(t.path("app.out")).unwrap(), r#"{"port":1}"#);
    t.replace("app.in", r#"{"port":1}"#);
    t.replace("app.in", r#"{"port":2}"#);
    t.wait_for_file("app.out", r#"{"port":2}"#);
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// The `[command]` starts when the required values are delivered. Its exit status becomes the exit status of the host.
#[test]
fn command_starts_with_values_and_sets_status() {
    let t = TestHost::new();
    let command = "[command]\ncommand = [\"sh\", \"-c\", \"trap 'exit 7' HUP; cat app.out > seen; \
                   while :; do sleep 0.01; done\"]\nsignal = \"SIGHUP\"\n";
    t.write("reloader.toml", command.to_owned() + &source("app", &to_file("app.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("app");
    assert!(!t.path("seen").exists(), "the command waits for the value");
    t.write("app.in", "one");
    t.wait_for_file("seen", "one");
    t.replace("app.in", "two");
    assert_eq!(host.wait().code(), Some(7), "{}", host.stderr());
}

#[test]
fn unreachable_optional_source_blocks_nothing() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let dead = "[[source]]\nname = \"dead\"\nplugin = \"kvs\"\n\
                config = { url = \"redis://127.0.0.1:1\", key = \"x\" }\n";
    t.write("reloader.toml", dead.to_owned() + &source("app", &to_file("app.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "one");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// The `[command]` is signalled once for each change, after the template sink of the group has written its file.
#[test]
fn command_is_signalled_after_group_delivery() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("b.in", "1");
    let config = "[command]\nsignal = \"SIGHUP\"\ncommand = [\"sh\", \"-c\", \"\
                  trap 'cat both.out >> seen' HUP; touch ready; while :; do sleep 0.01; done\"]\n\
                  [[group]]\nname = \"both\"\nsources = [\"a\", \"b\"]\n\
                  wait = { min = \"100ms\", max = \"1s\" }\n[[group.sink]]\ntype = \"template\"\n\
                  path = \"both.out\"\ntemplate = \"{{ a }}+{{ b }}\\n\"\n";
    t.write("reloader.toml", source("a", &to_file("a.out")) + &source("b", "") + config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the program runs", || t.path("ready").exists());
    // The program is signalled once, whether the source has its own sink (`a`) or only that of the group (`b`).
    for (name, value, seen) in [("a.in", "2", "2+1\n"), ("b.in", "2", "2+1\n2+2\n")] {
        t.replace(name, value);
        t.wait_for_file("seen", seen);
    }
    host.stop();
    assert_eq!(fs::read_to_string(t.path("seen")).unwrap(), "2+1\n2+2\n", "{}", host.stderr());
}

#[test]
fn template_renders_sources_strictly() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("b.in", "2");
    let group = "[[group]]\nname = \"both\"\nsources = [\"a\", \"b\"]\n\
                 [[group.sink]]\ntype = \"template\"\npath = \"both.out\"\ntemplate = \"{{ a }}+{{ b }}\"\n\
                 [[group.sink]]\ntype = \"template\"\npath = \"wrong.out\"\ntemplate = \"{{ gone }}\"\n";
    t.write("reloader.toml", source("a", "") + &source("b", "") + group);
    let checked = t.finish(&["check", "--config", "reloader.toml"]);
    assert!(checked.stderr.contains("unknown variable `gone`; available: `a`, `b`"), "{checked:?}");
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("both.out", "1+2");
    host.wait_for_log("gone");
    t.replace("b.in", "3");
    t.wait_for_file("both.out", "1+3");
    wait_until("the removal of the file", || !t.path("wrong.out").exists());
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn exec_sink_runs_after_file_sinks() {
    let t = TestHost::new();
    t.write("app.in", "0");
    let exec =
        "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"cat app.out >> seen\"]\n";
    t.write("reloader.toml", source("app", &format!("{exec}{}", to_file("app.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    let mut seen = String::from("0");
    t.wait_for_file("seen", &seen);
    for value in 1..20 {
        t.replace("app.in", value.to_string());
        seen += &value.to_string();
        t.wait_for_file("seen", &seen);
    }
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// At shutdown, the command of an `exec` sink does not run if a file sink of the same source could not write its file.
#[test]
fn shutdown_skips_command_without_file() {
    let t = TestHost::new();
    t.write("app.in", "0");
    let exec = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"touch\", \"ran\"]\n";
    t.write("reloader.toml", source("app", &format!("{}{exec}", to_file("no/such/directory/x"))));
    for _ in 0..10 {
        let mut host = t.run(&["run", "--config", "reloader.toml"]);
        host.wait_for_log("app/file-0");
        assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
        assert!(!t.path("ran").exists(), "{}", host.stderr());
    }
}

/// Source that ends with a configuration error, because its settings lack `key`, `hash` or `prefix`.
const IMPOSSIBLE_SOURCE: &str = "[[source]]\nname = \"k\"\nplugin = \"kvs\"\n\
                        config.url = \"redis://127.0.0.1:1\"\n";

#[test]
fn impossible_required_source_ends_host() {
    let t = TestHost::new();
    t.write("app.in", "0");
    let command = "[command]\ncommand = [\"touch\", \"started\"]\n";
    let config = format!("{}{IMPOSSIBLE_SOURCE}{command}", source("app", &to_file("app.out")));
    t.write("reloader.toml", config);
    let finished = t.finish(&["run", "--config", "reloader.toml"]);
    let (status, message) = finished.status_and_error();
    let why = "cannot be started: source `k` has ended: ";
    assert!(status == Some(2) && message.contains(why), "{message}");
    assert!(!t.path("started").exists());
    t.write("reloader.toml", IMPOSSIBLE_SOURCE);
    let finished = t.finish(&["run", "--config", "reloader.toml"]);
    let (status, message) = finished.status_and_error();
    assert!(status == Some(2) && message.contains("source `k` has ended: "), "{message}");
}

#[test]
fn impossible_optional_source_affects_no_other() {
    let t = TestHost::new();
    t.write("app.in", "0");
    t.write("reloader.toml", source("app", &to_file("app.out")) + IMPOSSIBLE_SOURCE);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "0");
    host.wait_for_log("source ended");
    let reload = t.finish(&["reload", "k"]);
    let (status, message) = reload.status_and_error();
    assert!(status == Some(1) && message.contains("source `k` has ended: "), "{message}");
    let history = t.finish(&["history", "k"]).text();
    assert!(history.contains("no value yet") && history.contains("ended: "), "{history}");
    t.replace("app.in", "1");
    t.wait_for_file("app.out", "1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn command_waits_are_logged() {
    let t = TestHost::new();
    t.write("b.in", "0");
    let sources = source("a", "") + &source("b", &to_file("no/such/directory/x"));
    let command = "[command]\ncommand = [\"true\"]\n";
    t.write("reloader.toml", sources + command);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("command waits for required values waiting_for=source `a`, sink `b/file-0`");
    t.write("a.in", "0");
    fs::create_dir_all(t.path("no/such/directory")).unwrap();
    t.replace("b.in", "1");
    assert_eq!(host.wait().code(), Some(0), "{}", host.stderr());
}

/// Prevents confd#671: a failed delivery was skipped, because the watch had already advanced.
#[test]
fn failed_delivery_is_retried_without_change() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let exec = "[[source.sink]]\ntype = \"exec\"\n\
                command = [\"sh\", \"-c\", \"test -e ready && cat > applied\"]\n";
    t.write("reloader.toml", source("app", exec));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("delivery failed, retrying");
    t.write("ready", "");
    t.wait_for_file("applied", "one");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// The group is delivered without the optional source, and with it when it has a value.
#[test]
fn group_is_delivered_without_optional_source() {
    let t = TestHost::new();
    t.write("base.in", "1");
    let optional = source("extra", "required = false\n");
    let group = "[[group]]\nname = \"g\"\nsources = [\"base\", \"extra\"]\n[[group.sink]]\ntype = \"template\"\n\
                 template = \"{{ base }}{% if extra %} {{ extra }}{% endif %}\"\npath = \"out\"\n";
    t.write("reloader.toml", [source("base", ""), optional, group.to_owned()].concat());
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("out", "1");
    t.write("extra.in", "2");
    t.wait_for_file("out", "1 2");
    t.replace("base.in", "3");
    t.wait_for_file("out", "3 2");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    // The value of the optional source is restored.
    std::fs::remove_file(t.path("out")).unwrap();
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("out", "3 2");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn missing_source_of_group_is_logged() {
    let t = TestHost::new();
    t.write("base.in", "1");
    let group = "[[group]]\nname = \"g\"\nsources = [\"base\", \"extra\"]\n[[group.sink]]\ntype = \"template\"\n\
                 template = \"{{ base }}\"\npath = \"out\"\n";
    t.write("reloader.toml", [source("base", ""), source("extra", ""), group.to_owned()].concat());
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("sink waits for values sink=\"group/g/template-0\" waiting_for=`extra`");
    assert!(!t.path("out").exists());
    t.write("extra.in", "2");
    t.wait_for_file("out", "1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

//! From a value to where it is needed, through the program itself.

use e2e::{PATIENCE, TestHost, wait_until};
use std::{fs, os::unix::fs::PermissionsExt, time::Instant};

/// One source, a file, and what else is said of it.
pub(crate) fn source(name: &str, rest: &str) -> String {
    format!(
        "[[source]]\nname = \"{name}\"\nplugin = \"file\"\nconfig.path = \"{name}.in\"\n{rest}\n"
    )
}

/// A sink of the source before it: a file.
pub(crate) fn to_file(name: &str) -> String {
    format!("[[source.sink]]\ntype = \"file\"\npath = \"{name}\"\n")
}

#[test]
fn a_value_is_written_to_a_file_and_so_is_each_change() {
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

/// vault#26283: a failing template restarted the others, and delayed them.
#[test]
fn a_failing_or_slow_sink_delays_no_other() {
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
    let stopping = Instant::now();
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert!(stopping.elapsed() < PATIENCE / 2, "a slow sink does not hold up the end");
}

/// consul-template#1006, #2030: one command for each of N files, and then once more.
#[test]
fn a_group_runs_its_command_once_when_all_are_there_and_once_after_a_burst() {
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
    assert!(!t.path("runs").exists(), "`c` is not there yet");
    t.write("c.in", "1");
    t.wait_for_file("runs", "run\n");
    for name in names {
        t.replace(&format!("{name}.in"), "2");
    }
    t.wait_for_file("runs", "run\nrun\n");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert_eq!(fs::read_to_string(t.path("runs")).unwrap(), "run\nrun\n");
}

/// prometheus-operator#4708: good, bad, the same good again was not applied.
#[test]
fn a_value_that_is_refused_leaves_the_last_good_one_and_the_next_is_tried() {
    let t = TestHost::new();
    t.write("app.in", r#"{"port":1}"#);
    let rest = format!("validate = {{ parse = \"json\" }}\n{}", to_file("app.out"));
    t.write("reloader.toml", source("app", &rest));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", r#"{"port":1}"#);
    t.replace("app.in", r#"{"port":"#);
    host.wait_for_log("refused");
    assert_eq!(fs::read_to_string(t.path("app.out")).unwrap(), r#"{"port":1}"#);
    t.replace("app.in", r#"{"port":1}"#);
    t.replace("app.in", r#"{"port":2}"#);
    t.wait_for_file("app.out", r#"{"port":2}"#);
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn the_program_that_uses_the_values_starts_when_they_are_there_and_its_status_is_the_hosts() {
    let t = TestHost::new();
    let command = "[command]\ncommand = [\"sh\", \"-c\", \"trap 'exit 7' HUP; cat app.out > seen; \
                   while :; do sleep 0.01; done\"]\nsignal = \"SIGHUP\"\n";
    t.write("reloader.toml", command.to_owned() + &source("app", &to_file("app.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("app");
    assert!(!t.path("seen").exists(), "there is no value yet");
    t.write("app.in", "one");
    t.wait_for_file("seen", "one");
    t.replace("app.in", "two");
    assert_eq!(host.wait().code(), Some(7), "{}", host.stderr());
}

#[test]
fn a_source_that_cannot_be_reached_keeps_nobody_waiting() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let dead = "[[source]]\nname = \"dead\"\nplugin = \"kvs\"\n\
                config = { url = \"redis://127.0.0.1:1\", key = \"x\" }\n";
    t.write("reloader.toml", dead.to_owned() + &source("app", &to_file("app.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "one");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn the_program_is_told_once_of_a_change_and_finds_what_is_made_of_several_sources() {
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
    // One has a sink of its own, the other has none.
    for (name, value, seen) in [("a.in", "2", "2+1\n"), ("b.in", "2", "2+1\n2+2\n")] {
        t.replace(name, value);
        t.wait_for_file("seen", seen);
    }
    host.stop();
    assert_eq!(fs::read_to_string(t.path("seen")).unwrap(), "2+1\n2+2\n", "{}", host.stderr());
}

#[test]
fn a_template_renders_several_sources_strictly() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("b.in", "2");
    let group = "[[group]]\nname = \"both\"\nsources = [\"a\", \"b\"]\n\
                 [[group.sink]]\ntype = \"template\"\npath = \"both.out\"\ntemplate = \"{{ a }}+{{ b }}\"\n\
                 [[group.sink]]\ntype = \"template\"\npath = \"wrong.out\"\ntemplate = \"{{ gone }}\"\n";
    t.write("reloader.toml", source("a", "") + &source("b", "") + group);
    let checked = t.finish(&["check", "--config", "reloader.toml"]);
    assert!(checked.stderr.contains("nothing is called `gone`; there is `a`, `b`"), "{checked:?}");
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("both.out", "1+2");
    host.wait_for_log("gone");
    t.replace("b.in", "3");
    t.wait_for_file("both.out", "1+3");
    wait_until("nothing is written of it", || !t.path("wrong.out").exists());
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn a_command_runs_when_the_files_beside_it_are_written() {
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

#[test]
fn nor_does_it_run_at_the_end_for_a_file_that_was_never_written() {
    let t = TestHost::new();
    t.write("app.in", "0");
    let exec = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"touch\", \"told\"]\n";
    t.write("reloader.toml", source("app", &format!("{}{exec}", to_file("no/such/directory/x"))));
    for _ in 0..10 {
        let mut host = t.run(&["run", "--config", "reloader.toml"]);
        host.wait_for_log("app/file-0");
        assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
        assert!(!t.path("told").exists(), "{}", host.stderr());
    }
}

/// A source of which nothing can ever come.
const HOPELESS: &str = "[[source]]\nname = \"k\"\nplugin = \"kvs\"\n\
                        config.url = \"redis://127.0.0.1:1\"\n";

#[test]
fn a_host_of_which_nothing_can_come_ends_and_says_why() {
    let t = TestHost::new();
    t.write("app.in", "0");
    let command = "[command]\ncommand = [\"touch\", \"started\"]\n";
    let config = format!("{}{HOPELESS}{command}", source("app", &to_file("app.out")));
    t.write("reloader.toml", config);
    let finished = t.finish(&["run", "--config", "reloader.toml"]);
    let (status, said) = finished.complaint();
    let why = "cannot be started: source `k` has ended: ";
    assert!(status == Some(2) && said.contains(why), "{said}");
    assert!(!t.path("started").exists());
    t.write("reloader.toml", HOPELESS);
    let finished = t.finish(&["run", "--config", "reloader.toml"]);
    let (status, said) = finished.complaint();
    assert!(status == Some(2) && said.contains("source `k` has ended: "), "{said}");
}

#[test]
fn a_source_of_which_nothing_can_come_leaves_the_others_alone_and_says_why_when_asked() {
    let t = TestHost::new();
    t.write("app.in", "0");
    t.write("reloader.toml", source("app", &to_file("app.out")) + HOPELESS);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "0");
    host.wait_for_log("has ended");
    let reload = t.finish(&["reload", "k"]);
    let (status, said) = reload.complaint();
    assert!(status == Some(1) && said.contains("source `k` has ended: "), "{said}");
    let history = t.finish(&["history", "k"]).text();
    assert!(history.contains("no value yet") && history.contains("ended: "), "{history}");
    t.replace("app.in", "1");
    t.wait_for_file("app.out", "1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn what_the_program_that_uses_the_values_waits_for_is_said() {
    let t = TestHost::new();
    t.write("b.in", "0");
    let sources = source("a", "") + &source("b", &to_file("no/such/directory/x"));
    let command = "[command]\ncommand = [\"true\"]\n";
    t.write("reloader.toml", sources + command);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("it waits for source `a`, sink `b/file-0`");
    t.write("a.in", "0");
    fs::create_dir_all(t.path("no/such/directory")).unwrap();
    t.replace("b.in", "1");
    assert_eq!(host.wait().code(), Some(0), "{}", host.stderr());
}

/// confd#671: what failed to be applied was skipped, since the watch had gone on already.
#[test]
fn what_was_not_applied_is_tried_again_though_its_source_says_nothing_new() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let exec = "[[source.sink]]\ntype = \"exec\"\n\
                command = [\"sh\", \"-c\", \"test -e ready && cat > applied\"]\n";
    t.write("reloader.toml", source("app", exec));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("not delivered, and tried again");
    t.write("ready", "");
    t.wait_for_file("applied", "one");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

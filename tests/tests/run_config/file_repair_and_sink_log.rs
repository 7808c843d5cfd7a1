//! Repair of delivered files, and the log events of sinks.

use crate::config_text_helpers::{source, to_file};
use e2e::TestHost;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::fs;

/// Setting of a file sink: interval of the checks whether another program has changed the file.
const SHORT_INTERVAL: &str = "repair-interval = \"1s\"\n";

#[test]
fn removed_file_is_repaired_and_notifiers_run() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let notifier =
        "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo run >> runs\"]\n";
    let sinks = format!("{}{SHORT_INTERVAL}{notifier}", to_file("app.out"));
    t.write("reloader.toml", source("app", &sinks));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("runs", "run\n");
    fs::remove_file(t.path("app.out")).unwrap();
    t.wait_for_file("app.out", "one");
    t.wait_for_file("runs", "run\nrun\n");
    host.wait_for_log(
        "file repaired sink=\"app/file-0\" path=app.out reason=\"the file is missing\"",
    );
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn repaired_file_signals_the_command() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let command = "[command]\ncommand = [\"sh\", \"-c\", \"trap 'cat app.out > seen' HUP; touch up; \
                   while :; do sleep 0.01; done\"]\nsignal = \"SIGHUP\"\n";
    let sink = format!("{}{SHORT_INTERVAL}", to_file("app.out"));
    t.write("reloader.toml", command.to_owned() + &source("app", &sink));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("up", "");
    fs::write(t.path("app.out"), "another program").unwrap();
    t.wait_for_file("seen", "one");
    host.stop();
}

/// During 50 changes, a sink that fails for each value causes one log line, and a working sink causes one at its first
/// delivery.
#[test]
fn many_values_write_few_log_lines() {
    let t = TestHost::new();
    t.write("app.in", "0");
    let failing =
        "[[source.sink]]\ntype = \"template\"\ntemplate = \"{{ undefined_name }}\"\npath = \"t\"\n";
    t.write("reloader.toml", source("app", &format!("{failing}{}", to_file("app.out"))));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    for number in 1..50 {
        t.replace("app.in", number.to_string());
        t.wait_for_file("app.out", &number.to_string());
    }
    host.wait_for_log("`undefined_name` is undefined");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let log = host.stderr();
    let lines = |sink: &str| log.lines().filter(|line| line.contains(sink)).count();
    assert_eq!((lines("app/template-0"), lines("app/file-1")), (1, 1), "{log}");
}

/// If a delivery fails because no file descriptor is free, the log contains the error text of the operating system.
/// The file is written when descriptors are available again.
#[test]
fn exhausted_file_descriptors_are_named() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let sink = format!("{}{SHORT_INTERVAL}", to_file("app.out"));
    t.write("reloader.toml", source("app", &sink));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "one");
    host.wait_for_log("delivery succeeded");
    let process = Pid::from_raw(host.id() as i32);
    let limit = |current| Rlimit { current: Some(current), maximum: Some(512) };
    prlimit(process, Resource::Nofile, limit(3)).unwrap();
    fs::remove_file(t.path("app.out")).unwrap();
    host.wait_for_log("cannot write `app.out`: Too many open files (os error 24)");
    prlimit(process, Resource::Nofile, limit(512)).unwrap();
    t.wait_for_file("app.out", "one");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

//! Child processes of a host that is killed: they end, and the next host starts each of them once.

use crate::config_text_helpers::source;
use e2e::{TestHost, process_status, wait_until};
use std::fs;

/// Returns the process IDs in the file `pids`, in the order of their starts.
fn process_ids(t: &TestHost) -> Vec<u32> {
    let text = fs::read_to_string(t.path("pids")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Script of a child that records its process ID and does not end. It starts only short-lived processes, which end soon
/// after it.
const ENDLESS: &str = "echo $$ >> pids; while :; do sleep 0.01; done";

/// Asserts that the child process ends when its host is killed, and that the next host starts a new child process.
fn assert_child_ends(config: &str) {
    let t = TestHost::new();
    t.write("app.in", "one");
    t.write("reloader.toml", config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the child runs", || process_ids(&t).len() == 1);
    host.kill();
    wait_until("the child ends", || process_status(process_ids(&t)[0]).is_none());
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the next child runs", || process_ids(&t).len() == 2);
    let running = process_ids(&t).into_iter().filter(|id| process_status(*id).is_some());
    assert_eq!(running.count(), 1, "{}", host.stderr());
    host.kill();
    wait_until("the next child ends", || process_status(process_ids(&t)[1]).is_none());
}

/// A `[command]` that ignores SIGTERM must not continue beside the `[command]` of the next host.
#[cfg(target_os = "linux")]
#[test]
fn command_ends_with_killed_host() {
    let command = format!("[command]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; {ENDLESS}\"]\n");
    assert_child_ends(&(command + &source("app", "")));
}

#[cfg(target_os = "linux")]
#[test]
fn exec_sink_ends_with_killed_host() {
    let sink = format!(
        "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"{ENDLESS}\"]\ntimeout = \"1h\"\n"
    );
    assert_child_ends(&source("app", &sink));
}

#[cfg(target_os = "linux")]
#[test]
fn command_validator_ends_with_killed_host() {
    let validate =
        format!("[source.validate]\ncommand = [\"sh\", \"-c\", \"{ENDLESS}\"]\ntimeout = \"1h\"\n");
    assert_child_ends(&source("app", &validate));
}

/// When the host is killed, the running command of an `exec` sink gets its `kill-signal`, and can clean up before it
/// exits.
#[cfg(target_os = "linux")]
#[test]
fn exec_sink_gets_its_kill_signal() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let script = "trap 'echo done > done; exit' INT; touch started; while :; do sleep 0.01; done";
    let sink = format!(
        "[[source.sink]]\ntype = \"exec\"\nkill-signal = \"SIGINT\"\n\
         command = [\"sh\", \"-c\", \"{script}\"]\n"
    );
    t.write("reloader.toml", source("app", &sink));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the hook runs", || t.path("started").exists());
    host.kill();
    t.wait_for_file("done", "done\n");
}

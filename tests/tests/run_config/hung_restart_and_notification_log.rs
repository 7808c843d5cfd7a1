//! The `[command]` after many changes, and on a file system that does not answer, tested through the program.

use crate::config_text_helpers::{source, to_file};
use e2e::{HungMount, TestHost, wait_until};
use std::{fs, os::unix::fs::PermissionsExt};

/// Returns the lines of a file; none if the file does not exist.
fn lines(t: &TestHost, name: &str) -> Vec<String> {
    let text = fs::read_to_string(t.path(name)).unwrap_or_default();
    text.lines().map(Into::into).collect()
}

/// A change restarts a program whose file system does not answer. The running program is not stopped, because it could
/// not be started again. The restart follows when the file system answers.
#[test]
fn program_on_hung_file_system_is_not_stopped_for_restart() {
    let t = TestHost::new();
    fs::create_dir(t.path("mnt")).unwrap();
    let log = t.path("log");
    let program = format!(
        "#!/bin/sh\ntrap 'echo ended >> {log}; exit 0' TERM\necho started >> {log}\n\
         while :; do sleep 0.01; done\n",
        log = log.display()
    );
    t.write("mnt/program", program);
    fs::set_permissions(t.path("mnt/program"), fs::Permissions::from_mode(0o755)).unwrap();
    t.write("app.in", "1");
    let command = "[command]\ncommand = [\"mnt/program\"]\non-change = \"restart\"\n";
    t.write("reloader.toml", command.to_owned() + &source("app", &to_file("app.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the program runs", || lines(&t, "log") == ["started"]);
    let Some(mount) = HungMount::over(&t.path("mnt")) else { return };
    t.replace("app.in", "2");
    t.wait_for_file("app.out", "2");
    host.wait_for_log("restart of the command postponed");
    assert_eq!(lines(&t, "log"), ["started"], "{}", host.stderr());
    drop(mount);
    wait_until("the program is restarted", || lines(&t, "log") == ["started", "ended", "started"]);
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let log = host.stderr();
    assert_eq!(log.matches("restart of the command postponed").count(), 1, "{log}");
    assert!(log.contains("the file system has not answered for 10s"), "{log}");
}

/// Each of 40 changes signals the program. The log reports at most 30 events in a burst.
#[test]
fn log_of_many_notifications_is_rate_limited() {
    const CHANGES: usize = 40;
    let t = TestHost::new();
    t.write("app.in", "0");
    let command = "[command]\nsignal = \"SIGHUP\"\nsettle = \"1ms\"\ncommand = [\"sh\", \"-c\", \
                   \"trap 'echo notified >> log' HUP; touch ready; while :; do sleep 0.01; done\"]\n";
    t.write("reloader.toml", command.to_owned() + &source("app", &to_file("app.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the program runs", || t.path("ready").exists());
    for change in 1..=CHANGES {
        t.replace("app.in", change.to_string());
        wait_until("the program is notified", || lines(&t, "log").len() >= change);
    }
    host.stop();
    let log = host.stderr();
    let logged = log.matches("sent signal to the command").count();
    assert!((1..=30).contains(&logged), "{logged} events: {log}");
}

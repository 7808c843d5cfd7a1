//! Start and stop of a host whose Unix socket is on a file system that does not answer.

use crate::config_text_helpers::{source, to_file};
use e2e::{HungMount, Running, TestHost};
use std::fs;

const HUNG_SOCKET: &str = "[listen]\naddress = \"unix:hung/api.sock\"\n";

/// Returns a directory with the configuration, which begins with `table`, and with the empty directory `hung`.
fn directory(table: &str) -> TestHost {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    t.write("app.in", "1");
    t.write("reloader.toml", table.to_owned() + &source("app", &to_file("app.out")));
    t
}

fn run(t: &TestHost) -> Running {
    t.run(&["run", "--config", "reloader.toml"])
}

/// Stops the host by SIGTERM, and asserts that it exits in time with status 0.
fn assert_stops_gracefully(host: &mut Running) {
    assert_eq!(host.stop_in_time().code(), Some(0), "{}", host.stderr());
}

/// The message names the socket.
#[test]
fn hung_socket_directory_fails_the_start() {
    let t = directory(HUNG_SOCKET);
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    let run = t.finish(&["run", "--config", "reloader.toml"]);
    let expected =
        "error: cannot listen on unix:hung/api.sock: the file system has not answered for 10s";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
    assert_eq!(run.status, Some(1));
}

/// The kernel delivers the signal to the main thread, which must not be the one that is blocked.
#[test]
fn host_stops_while_socket_directory_hangs() {
    let t = directory(HUNG_SOCKET);
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    let mut host = run(&t);
    // The sources start before the socket is bound.
    t.wait_for_file("app.out", "1");
    assert_stops_gracefully(&mut host);
}

/// The host removes the file of its socket when it stops.
#[test]
fn host_stops_after_socket_directory_hangs() {
    let t = directory(HUNG_SOCKET);
    let mut host = run(&t);
    host.wait_for_log("API listening");
    t.wait_for_file("app.out", "1");
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    assert_stops_gracefully(&mut host);
    // A warning would say that the API server has exceeded the deadline of the shutdown.
    assert!(!host.stderr().contains("API server"), "{}", host.stderr());
}

#[test]
fn stopped_host_removes_its_socket() {
    let t = directory(HUNG_SOCKET);
    let mut host = run(&t);
    host.wait_for_log("API listening");
    assert!(t.path("hung/api.sock").exists());
    assert_stops_gracefully(&mut host);
    assert!(!t.path("hung/api.sock").exists());
}

/// The control socket is in the state directory.
#[test]
fn remote_command_reports_hung_control_socket() {
    let t = directory("[state]\npath = \"hung/state\"\n");
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    let run = t.finish(&["status", "--config", "reloader.toml"]);
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.starts_with("error: cannot connect to the host at `hung/state/"), "{error}");
    assert!(error.contains("no answer within 10s; does its file system respond?"), "{error}");
}

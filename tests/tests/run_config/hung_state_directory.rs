//! State directory on a file system that does not answer: values are published, and revisions are not used twice.

use crate::config_text_helpers::{source, to_file};
use e2e::{HungMount, Running, TestHost, wait_until};
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

/// Time until the host reports a file system that does not answer, with a margin.
const MAX_REPORT_TIME: Duration = Duration::from_secs(15);

const NO_ANSWER: &str = "the file system has not answered for 10s";

/// Writes a configuration with the state in `hung/state`, an API outside of it, the source `a`, and the source `b`
/// whose values are not stored.
fn write_config(t: &TestHost) {
    fs::create_dir(t.path("hung")).unwrap();
    let exec = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \
                \"echo $RELOADER_REVISION >> a.revisions\"]\n";
    let config = [
        format!("[listen]\naddress = \"unix:{}\"\n", t.path("api.sock").display()),
        "[state]\npath = \"hung/state\"\n".to_owned(),
        source("a", &(to_file("a.out") + exec)),
        source("b", &format!("store = false\n{}", to_file("b.out"))),
    ];
    t.write("reloader.toml", config.concat());
    t.write("a.in", "1");
    t.write("b.in", "1");
}

fn start(t: &TestHost) -> Running {
    let host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    t.wait_for_file("b.out", "1");
    wait_until("the command for the value", || revisions(t) == [1]);
    host
}

fn revisions(t: &TestHost) -> Vec<u64> {
    let text = fs::read_to_string(t.path("a.revisions")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Publishes a value of both sources, and returns the time until it is delivered.
fn publish(t: &TestHost, value: &str) -> Duration {
    let start = Instant::now();
    t.replace("a.in", value);
    t.replace("b.in", value);
    t.wait_for_file("a.out", value);
    t.wait_for_file("b.out", value);
    start.elapsed()
}

/// Returns the status line and the body of a response of the API.
fn get(t: &TestHost, path: &str) -> String {
    let mut socket = UnixStream::connect(t.path("api.sock")).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: host\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).unwrap();
    response
}

fn is_state_failing(t: &TestHost) -> bool {
    let metrics = get(t, "/metrics");
    let value = metrics.lines().find_map(|line| line.strip_prefix("reloader_state_failing "));
    value.unwrap_or_else(|| panic!("no metric: {metrics}")).starts_with('1')
}

#[test]
fn values_are_published_while_state_directory_hangs() {
    let t = TestHost::new();
    write_config(&t);
    let mut host = start(&t);
    assert!(!is_state_failing(&t));
    let Some(mount) = HungMount::over(&t.path("hung")) else { return };
    let time = publish(&t, "2");
    assert!(time < MAX_REPORT_TIME, "{time:?}: {}", host.stderr());
    host.wait_for_log("state write failed, published values are not durable");
    assert!(is_state_failing(&t));
    // Later values do not wait for the file system.
    for value in ["3", "4", "5"] {
        let time = publish(&t, value);
        assert!(time < Duration::from_secs(8), "{time:?}: {}", host.stderr());
    }
    let log = host.stderr();
    assert_eq!(log.matches("state write failed").count(), 1, "{log}");
    assert!(log.contains(NO_ANSWER), "{log}");
    assert!(get(&t, "/v1/sources/a/history").starts_with("HTTP/1.1 200"));
    drop(mount);
    host.wait_for_log("state store writable again");
    wait_until("a state that is written", || !is_state_failing(&t));
    publish(&t, "6");
    host.kill();

    fs::write(t.path("a.in"), "7").unwrap();
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "7");
    // The delivery of revision 6 may be repeated after the kill.
    wait_until("a higher revision", || revisions(&t).last() > Some(&6));
    let revisions = revisions(&t);
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// A reload removes a source and adds it again while the state directory hangs.
#[test]
fn source_added_during_hang_continues_its_revisions() {
    let t = TestHost::new();
    write_config(&t);
    let config = fs::read_to_string(t.path("reloader.toml")).unwrap();
    let mut host = start(&t);
    let Some(mount) = HungMount::over(&t.path("hung")) else { return };
    publish(&t, "2");
    publish(&t, "3");
    wait_until("the command for the value", || revisions(&t).last() == Some(&3));
    let (before, source_b) = config.split_at(config.rfind("[[source]]").unwrap());
    let (listen_and_state, _) = before.split_at(before.find("[[source]]").unwrap());
    t.replace("reloader.toml", format!("{listen_and_state}{source_b}"));
    host.wait_for_log("source removed");
    host.wait_for_log("configuration reloaded");
    t.replace("a.in", "4");
    t.replace("reloader.toml", &config);
    host.wait_for_log("configuration reloaded, but a source could not be started");
    assert!(host.stderr().contains("state store unavailable"), "{}", host.stderr());
    drop(mount);
    host.wait_for_log("state store writable again");
    // The host retries the start of the source after 30 seconds.
    let start = Instant::now();
    while fs::read(t.path("a.out")).unwrap() != b"4" {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", host.stderr());
        thread::sleep(Duration::from_millis(50));
    }
    wait_until("a higher revision", || revisions(&t).last() > Some(&3));
    let revisions = revisions(&t);
    assert!(revisions.is_sorted_by(|before, after| before < after), "{revisions:?}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn host_stops_in_time_after_reported_hang() {
    let t = TestHost::new();
    write_config(&t);
    let mut host = start(&t);
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    host.wait_for_log(NO_ANSWER);
    publish(&t, "2");
    host.stop_in_time();
    assert!(host.stderr().contains("state store closed with unwritten changes"));
}

/// Without the stored revisions, the host would use revisions again.
#[test]
fn start_fails_if_state_directory_hangs() {
    let t = TestHost::new();
    write_config(&t);
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    let run = t.finish(&["run", "--config", "reloader.toml"]);
    let (status, error) = run.status_and_error();
    let expected = format!("state directory hung/state: {NO_ANSWER}; hint: ");
    assert!(
        error.replace(&format!("{}/", t.directory().display()), "").contains(&expected),
        "{error}"
    );
    assert_eq!(status, Some(1), "{error}");
}

#[test]
fn host_stops_at_once_while_state_directory_hangs_at_start() {
    let t = TestHost::new();
    write_config(&t);
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the thread that opens the state", || {
        host.thread_names().iter().any(|name| name == "reloader-store")
    });
    let start = Instant::now();
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

//! Notifications to the service manager (`sd_notify`).

use crate::config_text_helpers::{source, to_file};
use e2e::{TestHost, WAIT_TIMEOUT};
use std::{fs, os::unix::net::UnixDatagram};

/// Notification socket of a simulated service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    fn until(&self, line: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let message = self.next();
            if message.lines().any(|text| text == line) {
                return before;
            }
            before.push(message);
        }
    }
}

#[test]
fn ready_reloading_and_stopping_are_notified() {
    let t = TestHost::new();
    let socket = t.path("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    manager.0.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    t.write("reloader.toml", source("a", &to_file("a.out")));
    let mut host = t.run_with("NOTIFY_SOCKET", &socket, &["run", "--config", "reloader.toml"]);
    host.wait_for_log("source has no value yet");
    t.write("a.in", "1");
    assert_eq!(manager.until("READY=1"), [""; 0]);
    assert_eq!(fs::read_to_string(t.path("a.out")).unwrap(), "1");
    // A source without a value does not delay the end of a reload.
    t.write("reloader.toml", source("a", &to_file("a.out")) + &source("b", ""));
    host.hang_up();
    manager.until("RELOADING=1");
    manager.until("READY=1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    manager.until("STOPPING=1");
}

#[test]
fn watchdog_is_notified() {
    let t = TestHost::new();
    let socket = t.path("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    manager.0.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    t.write("reloader.toml", source("a", ""));
    let _host = t.run_with_all(
        &[("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "200000")],
        &["run", "--config", "reloader.toml"],
    );
    for _ in 0..5 {
        manager.until("WATCHDOG=1");
    }
}

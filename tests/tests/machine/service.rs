//! What a service manager is told.

use crate::delivery::{source, to_file};
use e2e::{PATIENCE, TestHost};
use std::{fs, os::unix::net::UnixDatagram};

/// What has been told, message by message.
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
            let said = self.next();
            if said.lines().any(|said| said == line) {
                return before;
            }
            before.push(said);
        }
    }
}

#[test]
fn a_service_manager_is_told_when_all_is_there_when_it_is_read_again_and_when_it_ends() {
    let t = TestHost::new();
    let socket = t.path("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    t.write("reloader.toml", source("a", &to_file("a.out")));
    let mut host = t.run_with("NOTIFY_SOCKET", &socket, &["run", "--config", "reloader.toml"]);
    host.wait_for_log("there is no value yet");
    t.write("a.in", "1");
    assert_eq!(manager.until("READY=1"), [""; 0]);
    assert_eq!(fs::read_to_string(t.path("a.out")).unwrap(), "1");
    // What is not there yet does not hold up the end of a reload.
    t.write("reloader.toml", source("a", &to_file("a.out")) + &source("b", ""));
    host.hang_up();
    manager.until("RELOADING=1");
    manager.until("READY=1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    manager.until("STOPPING=1");
}

#[test]
fn a_watchdog_is_told_that_the_host_is_alive() {
    let t = TestHost::new();
    let socket = t.path("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    t.write("reloader.toml", source("a", ""));
    let _host = t.run_with_all(
        &[("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "200000")],
        &["run", "--config", "reloader.toml"],
    );
    for _ in 0..5 {
        manager.until("WATCHDOG=1");
    }
}

//! End-to-end test of the example `server`.
#![cfg(feature = "bundled")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    env, fs,
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Timeout of each wait; reached only on failure.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the path of the example, in the target directory of this test.
fn example_path() -> PathBuf {
    let own = env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join("examples/server")
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn write_config(path: &Path, listen: SocketAddr, greeting: &str) {
    let text = format!("listen = \"{listen}\"\ngreeting = \"{greeting}\"\nconnections = 2\n");
    fs::write(path, text).unwrap();
}

fn wait_for_greeting(at: SocketAddr, greeting: &str) {
    let start = Instant::now();
    loop {
        let mut received = String::new();
        if let Ok(mut stream) = TcpStream::connect(at) {
            let _ = stream.read_to_string(&mut received);
        }
        if received == format!("{greeting}\n") {
            return;
        }
        assert!(start.elapsed() < TIMEOUT, "expected {greeting:?}, got {received:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn assert_config_changes_apply(options: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.toml");
    let at = free_address();
    write_config(&path, at, "hello");
    let child = Command::new(example_path())
        .args(["--config", "server.toml"])
        .args(options)
        .current_dir(directory.path())
        .env("XDG_CACHE_HOME", directory.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(child);
    wait_for_greeting(at, "hello");
    write_config(&path, at, "good morning");
    wait_for_greeting(at, "good morning");
    fs::write(&path, "greeting = nonsense").unwrap();
    wait_for_greeting(at, "good morning");
    let max = i64::MAX;
    let text = format!("listen = \"{at}\"\ngreeting = \"to all\"\nconnections = {max}\n");
    fs::write(&path, text).unwrap();
    wait_for_greeting(at, "to all");
    let other = free_address();
    write_config(&path, other, "here now");
    wait_for_greeting(other, "here now");
}

#[test]
fn native_reloader_applies_changes() {
    for mode in ["polling", "realtime", "hybrid"] {
        assert_config_changes_apply(&["--watch-mode", mode]);
    }
}

#[test]
fn plugin_applies_changes() {
    for mode in ["polling", "realtime", "hybrid"] {
        assert_config_changes_apply(&["--plugin", "--watch-mode", mode]);
    }
}

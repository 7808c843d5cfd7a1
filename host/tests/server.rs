//! The example `server`, as its user sees it.
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

/// Reached only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Beside the folder of this test's own program.
fn program() -> PathBuf {
    let own = env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join("examples/server")
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn write(path: &Path, at: SocketAddr, greeting: &str) {
    let text = format!("listen = \"{at}\"\ngreeting = \"{greeting}\"\nconnections = 2\n");
    fs::write(path, text).unwrap();
}

fn wait_for_greeting(at: SocketAddr, greeting: &str) {
    let start = Instant::now();
    loop {
        let mut heard = String::new();
        if let Ok(mut stream) = TcpStream::connect(at) {
            let _ = stream.read_to_string(&mut heard);
        }
        if heard == format!("{greeting}\n") {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{heard:?} instead of {greeting:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn a_configuration_is_followed(options: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.toml");
    let at = free();
    write(&path, at, "hello");
    let child = Command::new(program())
        .args(["--config", "server.toml"])
        .args(options)
        .current_dir(directory.path())
        .env("XDG_CACHE_HOME", directory.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(child);
    wait_for_greeting(at, "hello");
    write(&path, at, "good morning");
    wait_for_greeting(at, "good morning");
    fs::write(&path, "greeting = nonsense").unwrap();
    wait_for_greeting(at, "good morning");
    let most = i64::MAX;
    let many = format!("listen = \"{at}\"\ngreeting = \"to all\"\nconnections = {most}\n");
    fs::write(&path, many).unwrap();
    wait_for_greeting(at, "to all");
    let elsewhere = free();
    write(&path, elsewhere, "here now");
    wait_for_greeting(elsewhere, "here now");
}

#[test]
fn natively_with_each_watch_mode() {
    for mode in ["polling", "realtime", "hybrid"] {
        a_configuration_is_followed(&["--watch-mode", mode]);
    }
}

#[test]
fn with_a_plugin_in_its_place() {
    for mode in ["polling", "realtime", "hybrid"] {
        a_configuration_is_followed(&["--plugin", "--watch-mode", mode]);
    }
}

//! End-to-end test of the example `server`.

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
///
/// # Panics
///
/// If the example is not built. `cargo test` builds it, but not `cargo test --test`.
fn example_path() -> PathBuf {
    let own = env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join("examples/server");
    assert!(path.exists(), "{} not found: add `--example server`", path.display());
    path
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
    // An invalid configuration keeps the last good one.
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
fn native_reloader_polls_changes() {
    assert_config_changes_apply(&["--watch-mode", "polling"]);
}

#[test]
fn native_reloader_watches_changes() {
    assert_config_changes_apply(&["--watch-mode", "realtime"]);
}

#[test]
fn native_reloader_applies_changes_with_hybrid() {
    assert_config_changes_apply(&["--watch-mode", "hybrid"]);
}

#[test]
fn plugin_polls_changes() {
    assert_config_changes_apply(&["--plugin", "--watch-mode", "polling"]);
}

#[test]
fn plugin_watches_changes() {
    assert_config_changes_apply(&["--plugin", "--watch-mode", "realtime"]);
}

#[test]
fn plugin_applies_changes_with_hybrid() {
    assert_config_changes_apply(&["--plugin", "--watch-mode", "hybrid"]);
}

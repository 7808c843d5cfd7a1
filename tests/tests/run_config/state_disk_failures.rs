//! State store on a full disk, and files of the state store that are removed while the host runs.

use crate::config_text_helpers::{source, to_file};
use e2e::{Running, TestHost, skip, wait_until};
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Small file system in memory. It is unmounted on drop.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts the file system at an empty directory. Returns `None` and [skips](skip) the test if this process
    /// may not mount.
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs"]).arg(&path);
        if mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Some(Self { path });
        }
        skip("not permitted to mount a file system");
        None
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Writes a file until the disk is full.
    fn fill(&self) {
        let mut filler = fs::File::options().append(true).create(true).open(self.filler()).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Returns a value that does not fit into the free pages of the database.
fn large(number: u32) -> String {
    format!("{number} {}\n", "x".repeat(100_000))
}

fn write_config(t: &TestHost) {
    let exec = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \
                \"echo $RELOADER_REVISION >> a.revisions; cat > a.seen\"]\n";
    let sinks = format!("{}{exec}", to_file("a.out"));
    t.write("reloader.toml", format!("[state]\npath = \"state\"\n{}", source("a", &sinks)));
}

fn start(t: &TestHost) -> Running {
    t.run(&["run", "--config", "reloader.toml"])
}

/// Publishes a value, and waits until the file sink and the `exec` sink have received it.
fn publish(t: &TestHost, value: &str) {
    t.replace("a.in", value);
    t.wait_for_file("a.out", value);
    t.wait_for_file("a.seen", value);
}

fn revisions(t: &TestHost) -> Vec<u64> {
    let text = fs::read_to_string(t.path("a.revisions")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn history(t: &TestHost) -> Vec<u64> {
    let history = t.finish(&["history", "a", "--json"]);
    assert_eq!(history.status, Some(0), "{}", history.stderr);
    let history: serde_json::Value = serde_json::from_slice(&history.stdout).unwrap();
    history.as_array().unwrap().iter().map(|entry| entry["revision"].as_u64().unwrap()).collect()
}

/// Waits until the host accepts connections at its control socket. The file of the socket alone proves nothing: a
/// killed host leaves it behind.
fn wait_for_control_socket(t: &TestHost) {
    wait_until("the control socket", || UnixStream::connect(t.path("state/control.sock")).is_ok());
}

/// Returns whether the metrics report that the state store cannot be written.
fn is_state_failing(t: &TestHost) -> bool {
    let mut socket = UnixStream::connect(t.path("state/control.sock")).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: host\r\nConnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    socket.read_to_string(&mut metrics).unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix("reloader_state_failing "));
    value.unwrap_or_else(|| panic!("no metric: {metrics}")).starts_with('1')
}

/// The disk of the state store becomes full, and the host is killed twice. Values are published and rolled back
/// nevertheless, and no revision number is used twice.
#[test]
fn revisions_increase_across_kills_on_full_disk() {
    let t = TestHost::new();
    let Some(disk) = SmallDisk::mount(t.path("state")) else { return };
    write_config(&t);
    let mut host = start(&t);
    (1..=3).for_each(|number| publish(&t, &format!("small {number}")));
    assert!(!is_state_failing(&t));
    disk.fill();
    (4..=8).for_each(|number| publish(&t, &large(number)));
    host.wait_for_log("state write failed");
    assert!(is_state_failing(&t));
    assert_eq!(history(&t), [8, 7, 6, 5, 4, 3, 2, 1]);
    // Revision 6 is not on the disk, only in memory.
    let rollback = t.finish(&["rollback", "a", "--to", "6"]);
    assert_eq!(rollback.status, Some(0), "{}", rollback.stderr);
    t.wait_for_file("a.out", &large(6));
    let resumed = t.finish(&["resume", "a"]);
    assert_eq!(resumed.status, Some(0), "{}", resumed.stderr);
    t.wait_for_file("a.out", &large(8));
    host.kill();
    disk.fill();

    let mut host = start(&t);
    host.wait_for_log("published revision was not stored, its value is lost");
    publish(&t, &large(20));
    publish(&t, &large(21));
    host.kill();

    disk.free();
    let mut host = start(&t);
    publish(&t, "last");
    let revisions = revisions(&t);
    assert!(revisions.is_sorted_by(|before, after| before < after), "{revisions:?}");
    assert_eq!(history(&t).first(), revisions.last());
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let mut host = start(&t);
    wait_for_control_socket(&t);
    assert_eq!(history(&t).first(), revisions.last(), "the newest revision is stored");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn stop_on_full_disk_names_losses() {
    let t = TestHost::new();
    let Some(disk) = SmallDisk::mount(t.path("state")) else { return };
    write_config(&t);
    let mut host = start(&t);
    publish(&t, "small");
    disk.fill();
    publish(&t, &large(2));
    publish(&t, &large(3));
    host.wait_for_log("state write failed");
    let before = Instant::now();
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    let log = host.stderr();
    assert!(log.contains("state store closed with unwritten changes"), "{log}");
    assert!(log.contains("not stored: revision 3 of `a`"), "{log}");
}

/// The host creates a removed state directory again. Otherwise it would write to deleted files, and a restart would
/// lose all values.
#[test]
fn removed_state_directory_is_written_again() {
    let t = TestHost::new();
    write_config(&t);
    let mut host = start(&t);
    publish(&t, "one");
    publish(&t, "two");
    fs::remove_dir_all(t.path("state")).unwrap();
    publish(&t, "three");
    host.wait_for_log("removed while the host was running");
    host.wait_for_log("state store writable again");
    // The control socket is restored too.
    host.wait_for_log("Unix socket file was removed, socket bound again");
    assert_eq!(history(&t), [3, 2, 1]);
    host.kill();
    fs::remove_file(t.path("a.in")).unwrap();
    let mut host = start(&t);
    wait_for_control_socket(&t);
    assert_eq!(history(&t), [3, 2, 1]);
    assert_private(&t.path("state"));
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

fn assert_private(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

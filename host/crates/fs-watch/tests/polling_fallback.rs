//! Fallback to polling: inotify limits of the system, a failed listener, and directories that cannot be watched.
//!
//! Each user namespace has its own limits in `/proc/sys/user`, within the system limits in
//! `/proc/sys/fs/inotify`. A test of a limit runs itself again in a new user namespace.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]
#![allow(clippy::print_stdout, reason = "skipped tests and times are printed")]

mod consumer;

use consumer::{CHANGE_TIMEOUT, NEVER, wait_for_content};
use reloader_fs_watch::FileWatcher;
use std::{
    env,
    fs::{self, Permissions},
    mem::ManuallyDrop,
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Environment variable that is set in a process that a test has started with other limits or
/// another user.
const CHILD_VARIABLE: &str = "POLLING_FALLBACK_TEST";

const MAX_WATCHES_PATH: &str = "/proc/sys/user/max_inotify_watches";
const MAX_INSTANCES_PATH: &str = "/proc/sys/user/max_inotify_instances";

/// Runs `test` again in a new user namespace. Returns true in that run.
fn is_in_own_namespace(test: &str) -> bool {
    if env::var_os(CHILD_VARIABLE).is_some() {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap();
        assert!(
            !map.contains("4294967295"),
            "the test would change the limits of the whole system"
        );
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]);
        command
    };
    let writable = "test -w /proc/sys/user/max_inotify_watches";
    let possible = unshare().args(["sh", "-c", writable]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        println!("{test}: skipped, user namespaces are not available");
        return false;
    }
    let status = unshare()
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD_VARIABLE, "1")
        .status();
    assert!(status.unwrap().success(), "{test} failed in its own user namespace");
    false
}

/// Log events of the host's crates at level `INFO` and above: the message and all fields.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Log {
    fn start() -> Self {
        let log = Self::default();
        tracing::subscriber::set_global_default(log.clone()).unwrap();
        log
    }

    fn lines(&self) -> Vec<(Level, String)> {
        self.0.lock().unwrap().clone()
    }

    async fn wait_for(&self, count: usize) -> Vec<(Level, String)> {
        wait_until("the event is logged", || self.lines().len() >= count).await;
        self.lines()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("reloader_")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = LogLine(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push((*event.metadata().level(), line.0));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct LogLine(String);

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

async fn wait_until(description: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + CHANGE_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < end, "timeout: {description}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Checks that changes arrive while the limit in the file `limit` is reached and after it is
/// raised. The limit is logged once as a warning that contains `cause`, and the recovery once.
async fn check_fallback_and_recovery(limit: &str, cause: &str) {
    let log = Log::start();
    let before = fs::read_to_string(limit).unwrap();
    fs::write(limit, "1").unwrap();
    // An inotify instance and a watch of the test itself exhaust the limit.
    let taken = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
    rustix::fs::inotify::add_watch(&taken, "/", rustix::fs::inotify::WatchFlags::MOVE).unwrap();

    let files = FileWatcher::new()
        .poll_interval(Duration::from_millis(20))
        .retry_every(Duration::from_millis(100));
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..3).map(|n| directory.path().join(n.to_string())).collect();
    let mut watches = Vec::new();
    for path in &paths {
        fs::write(path, "0").unwrap();
        watches.push(files.watch(path).await.unwrap());
    }
    for content in ["1", "2"] {
        for (path, watch) in paths.iter().zip(&mut watches) {
            fs::write(path, content).unwrap();
            wait_for_content(&files, watch, path, content).await;
        }
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, Level::WARN);
    assert!(lines[0].1.contains(cause), "{lines:?}");

    fs::write(limit, before).unwrap();
    // Keeps a call of `changed` running for each watch, because a watch tries inotify again only during such a call.
    let waiting = watches.iter_mut().map(|watch| async {
        loop {
            watch.changed().await.unwrap();
        }
    });
    let mut waiting: Vec<_> = waiting.map(Box::pin).collect();
    let all = std::future::poll_fn(|context| {
        for one in &mut waiting {
            let _ = one.as_mut().poll(context);
        }
        std::task::Poll::<()>::Pending
    });
    let lines = tokio::select! {
        () = all => unreachable!("the waits do not end"),
        lines = log.wait_for(2) => lines,
    };
    assert_eq!(lines[1].0, Level::INFO, "{lines:?}");
    drop(waiting);
    for (path, watch) in paths.iter().zip(&mut watches) {
        fs::write(path, "3").unwrap();
        wait_for_content(&files, watch, path, "3").await;
    }
    assert_eq!(log.lines().len(), 2);
}

#[tokio::test]
async fn watch_limit_falls_back_to_polling() {
    if is_in_own_namespace("watch_limit_falls_back_to_polling") {
        check_fallback_and_recovery(MAX_WATCHES_PATH, "fs.inotify.max_user_watches").await;
    }
}

#[tokio::test]
async fn instance_limit_falls_back_to_polling() {
    if is_in_own_namespace("instance_limit_falls_back_to_polling") {
        check_fallback_and_recovery(MAX_INSTANCES_PATH, "fs.inotify.max_user_instances").await;
    }
}

/// Replaces the file behind the inotify descriptor of this process with a directory, so that each read fails.
fn break_inotify_descriptor() {
    let is_inotify = |number: &RawFd| {
        let target = fs::read_link(format!("/proc/self/fd/{number}"));
        target.is_ok_and(|target| target.as_os_str() == "anon_inode:inotify")
    };
    let numbers = fs::read_dir("/proc/self/fd").unwrap();
    let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let number = numbers.filter(is_inotify).last().expect("an inotify instance");
    #[allow(unsafe_code, reason = "the file watcher owns the descriptor and keeps it open")]
    let mut descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    rustix::io::dup2(fs::File::open("/").unwrap(), &mut descriptor).unwrap();
}

/// The listener ends at a read error of its inotify instance. Changes arrive by polling, until another instance starts
/// some time later. The failure, the fallback and the recovery are logged once each.
#[tokio::test]
async fn failed_listener_falls_back_to_polling() {
    if !is_in_own_namespace("failed_listener_falls_back_to_polling") {
        return;
    }
    let log = Log::start();
    let files = FileWatcher::new()
        .poll_interval(Duration::from_millis(20))
        .retry_every(Duration::from_millis(100));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "0").unwrap();
    let mut watch = files.watch(&path).await.unwrap();
    break_inotify_descriptor();
    for content in ["1", "2", "3"] {
        fs::write(&path, content).unwrap();
        wait_for_content(&files, &mut watch, &path, content).await;
    }
    let waiting = async {
        loop {
            watch.changed().await.unwrap();
        }
    };
    let lines = tokio::select! {
        () = waiting => unreachable!("the wait does not end"),
        lines = log.wait_for(3) => lines,
    };
    let expected = [
        (Level::ERROR, "file event listener failed"),
        (Level::WARN, "inotify unavailable for some files, polling them"),
        (Level::INFO, "inotify events restored for all files"),
    ];
    for ((level, line), (expected_level, phrase)) in lines.iter().zip(expected) {
        assert!(*level == expected_level && line.contains(phrase), "{lines:?}");
    }
    fs::write(&path, "4").unwrap();
    wait_for_content(&files, &mut watch, &path, "4").await;
    assert_eq!(log.lines().len(), expected.len());
}

/// A directory with execute but without read permission cannot be watched. An unprivileged child
/// process detects by polling that a directory below the unreadable one is replaced.
#[tokio::test]
async fn file_below_unreadable_directory_is_polled() {
    if let Some(path) = env::var_os(CHILD_VARIABLE) {
        assert!(fs::read_dir(Path::new(&path).ancestors().nth(2).unwrap()).is_err());
        let files = FileWatcher::new().poll_interval(Duration::from_millis(20));
        let path = Path::new(&path);
        let mut watch = files.watch(path).await.unwrap();
        fs::write(path, "watched").unwrap();
        return wait_for_content(&files, &mut watch, path, "1").await;
    }
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("d/f");
    let make = |name: &str, content: &str| {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("f"), content).unwrap();
        fs::set_permissions(root.path().join(name).join("f"), Permissions::from_mode(0o666))
            .unwrap();
    };
    make("d", "0");
    fs::set_permissions(root.path(), Permissions::from_mode(0o711)).unwrap();
    let Ok(mut child) = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "file_below_unreadable_directory_is_polled"])
        .env(CHILD_VARIABLE, &path)
        .stderr(Stdio::null())
        .spawn()
    else {
        println!("skipped, `setpriv` is not available");
        return;
    };
    let mut status = None;
    wait_until("the file is watched", || {
        fs::read(&path).is_ok_and(|content| content == b"watched") || {
            status = child.try_wait().unwrap();
            status.is_some()
        }
    })
    .await;
    if status.is_some() {
        println!("skipped, another user cannot run the test");
        return;
    }
    // Only events of the unreadable parent would report that the directory is replaced.
    make("new", "1");
    fs::rename(root.path().join("d"), root.path().join("old")).unwrap();
    fs::rename(root.path().join("new"), root.path().join("d")).unwrap();
    assert!(child.wait().unwrap().success());
}

/// With 200 files in one directory and a limit of 64 watches, all changes arrive as kernel events,
/// and the watcher does not reach the limit.
#[tokio::test]
async fn link_count_watches_stay_within_budget() {
    if !is_in_own_namespace("link_count_watches_stay_within_budget") {
        return;
    }
    fs::write(MAX_WATCHES_PATH, "64").unwrap();
    let log = Log::start();
    let files = FileWatcher::new().poll_interval(NEVER);
    let directory = tempfile::tempdir().unwrap();
    let mut watches = Vec::new();
    for number in 0..200 {
        let path = directory.path().join(number.to_string());
        fs::write(&path, "0").unwrap();
        watches.push((files.watch(&path).await.unwrap(), path));
    }
    for (watch, path) in &mut watches {
        fs::write(&*path, "1").unwrap();
        wait_for_content(&files, watch, path, "1").await;
    }
    assert_eq!(log.lines(), []);
}

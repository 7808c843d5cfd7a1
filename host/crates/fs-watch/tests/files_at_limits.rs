//! Files when the system's limits are reached, and in large numbers.
//!
//! Each user namespace has limits of its own below the system's (`/proc/sys/user`; what is in
//! `/proc/sys/fs/inotify` is everybody's): a test runs itself again in such a namespace.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(clippy::print_stdout, reason = "what is skipped is said")]

use reloader_fs_watch::{FileWatcher, PathWatch};
use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Only reached on failure.
const DEADLINE: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);
/// Set in a process that has limits of its own.
const INSIDE: &str = "FILES_AT_LIMITS";

const WATCHES: &str = "/proc/sys/user/max_inotify_watches";
const INSTANCES: &str = "/proc/sys/user/max_inotify_instances";

/// Runs a test again where its limits hurt nobody. Whether this is there.
fn is_inside(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap();
        assert!(!map.contains("4294967295"), "these are the limits of the whole system");
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
        println!("{test}: skipped, for want of user namespaces");
        return false;
    }
    let status = unshare()
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success(), "{test} failed in a namespace of its own");
    false
}

/// What has been logged, without what is for developers.
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
        eventually("it is logged", || self.lines().len() >= count).await;
        self.lines()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("reloader_")
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push((*event.metadata().level(), message.0));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// In memory if possible, for many files.
fn roomy() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Waits for changes until the file holds this.
async fn comes_to_know(files: &FileWatcher, watch: &mut PathWatch, path: &Path, content: &str) {
    let known = async {
        loop {
            watch.changed().await.unwrap();
            let read = files.read(path, 1 << 20, &watch.last_writer()).await;
            if read.is_ok_and(|read| read == content.as_bytes()) {
                return;
            }
        }
    };
    timeout(DEADLINE, known).await.unwrap_or_else(|_| panic!("{content:?} has not arrived"));
}

/// Changes in some files all arrive while there are no events, and after they are back.
async fn falls_back_and_returns(limit: &str, advice: &str) {
    let log = Log::start();
    let before = fs::read_to_string(limit).unwrap();
    fs::write(limit, "1").unwrap();
    // Whoever else has this one.
    let taken = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
    rustix::fs::inotify::add_watch(&taken, "/", rustix::fs::inotify::WatchFlags::MOVE).unwrap();

    let files = FileWatcher::new()
        .probe_every(Duration::from_millis(20))
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
            comes_to_know(&files, watch, path, content).await;
        }
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, Level::WARN);
    assert!(lines[0].1.contains(advice), "{lines:?}");

    fs::write(limit, before).unwrap();
    // Each of them tries again while somebody waits for it.
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
        () = all => unreachable!("they wait for ever"),
        lines = log.wait_for(2) => lines,
    };
    assert_eq!(lines[1].0, Level::INFO, "{lines:?}");
    drop(waiting);
    for (path, watch) in paths.iter().zip(&mut watches) {
        fs::write(path, "3").unwrap();
        comes_to_know(&files, watch, path, "3").await;
    }
    assert_eq!(log.lines().len(), 2);
}

#[tokio::test]
async fn when_there_are_no_more_watches_files_are_looked_at_until_there_are() {
    if is_inside("when_there_are_no_more_watches_files_are_looked_at_until_there_are") {
        falls_back_and_returns(WATCHES, "fs.inotify.max_user_watches").await;
    }
}

#[tokio::test]
async fn when_there_are_no_more_instances_files_are_looked_at_until_there_are() {
    if is_inside("when_there_are_no_more_instances_files_are_looked_at_until_there_are") {
        falls_back_and_returns(INSTANCES, "fs.inotify.max_user_instances").await;
    }
}

/// Somebody without rights watches a file below a directory that may be passed through, not read.
#[tokio::test]
async fn below_a_directory_that_may_not_be_read_a_file_is_looked_at() {
    if let Some(path) = env::var_os(INSIDE) {
        assert!(fs::read_dir(Path::new(&path).ancestors().nth(2).unwrap()).is_err());
        let files = FileWatcher::new().probe_every(Duration::from_millis(20));
        let path = Path::new(&path);
        let mut watch = files.watch(path).await.unwrap();
        fs::write(path, "watched").unwrap();
        return comes_to_know(&files, &mut watch, path, "1").await;
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
        .args(["--exact", "below_a_directory_that_may_not_be_read_a_file_is_looked_at"])
        .env(INSIDE, &path)
        .stderr(Stdio::null())
        .spawn()
    else {
        println!("skipped, for want of setpriv");
        return;
    };
    let mut status = None;
    eventually("it is watched", || {
        fs::read(&path).is_ok_and(|content| content == b"watched") || {
            status = child.try_wait().unwrap();
            status.is_some()
        }
    })
    .await;
    if status.is_some() {
        println!("skipped: nobody can run this");
        return;
    }
    // The directory that has the name now is another one, and only its parent could tell.
    make("new", "1");
    fs::rename(root.path().join("d"), root.path().join("old")).unwrap();
    fs::rename(root.path().join("new"), root.path().join("d")).unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn watches_that_are_rarely_needed_are_not_spent_on_everything() {
    if !is_inside("watches_that_are_rarely_needed_are_not_spent_on_everything") {
        return;
    }
    fs::write(WATCHES, "64").unwrap();
    let log = Log::start();
    let files = FileWatcher::new().probe_every(NEVER);
    let directory = tempfile::tempdir().unwrap();
    let mut watches = Vec::new();
    for number in 0..200 {
        let path = directory.path().join(number.to_string());
        fs::write(&path, "0").unwrap();
        watches.push((files.watch(&path).await.unwrap(), path));
    }
    for (watch, path) in &mut watches {
        fs::write(&*path, "1").unwrap();
        comes_to_know(&files, watch, path, "1").await;
    }
    assert_eq!(log.lines(), []);
}

/// Paths are watched, changed and left in large numbers; and the watches are given up in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_files_in_one_directory_are_watched() {
    const FILES: usize = 10_000;
    let files = FileWatcher::new().probe_every(NEVER);
    let directory = roomy();
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let known = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for number in 0..FILES {
        let path = directory.path().join(number.to_string());
        fs::write(&path, "0").unwrap();
        let mut watch = files.watch(&path).await.unwrap();
        let (files, known) = (files.clone(), Arc::clone(&known));
        tasks.spawn(async move {
            loop {
                watch.changed().await.unwrap();
                let read = files.read(&path, 10, &watch.last_writer()).await;
                if read.is_ok_and(|content| content == b"1") {
                    known.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    return;
                }
            }
        });
    }
    println!("watched after {:?}", began.elapsed());
    let began = Instant::now();
    for number in 0..FILES {
        let new = directory.path().join("new");
        fs::write(&new, "1").unwrap();
        fs::rename(new, directory.path().join(number.to_string())).unwrap();
    }
    let all = async { while tasks.join_next().await.transpose().unwrap().is_some() {} };
    let done = timeout(DEADLINE, all).await;
    let known = known.load(std::sync::atomic::Ordering::Relaxed);
    assert!(done.is_ok(), "{known} of {FILES} are known");
    println!("all known after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_among_ten_thousand_that_change_all_the_time_is_told_of_alone() {
    let files = FileWatcher::new().probe_every(NEVER);
    let directory = roomy();
    let root = directory.path().to_owned();
    for number in 0..10_000 {
        fs::write(root.join(format!("n{number}")), "").unwrap();
    }
    let path = root.join("f");
    fs::write(&path, "0").unwrap();
    let mut watch = files.watch(&path).await.unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let churn = std::thread::spawn(move || {
        for number in (0..10_000).cycle() {
            let neighbour = root.join(format!("n{number}"));
            fs::write(&neighbour, "x").unwrap();
            fs::remove_file(&neighbour).unwrap();
            if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
        }
    });
    for number in 1..=50 {
        let content = number.to_string();
        fs::write(&path, &content).unwrap();
        comes_to_know(&files, &mut watch, &path, &content).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    churn.join().unwrap();
}

#[test]
fn a_watcher_outlives_the_runtime_that_it_was_first_used_in() {
    let files = FileWatcher::new().probe_every(NEVER);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "0").unwrap();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let mut watch = first.block_on(files.watch(&path)).unwrap();
    drop(first);
    let second = runtime();
    second.block_on(async {
        for content in ["1", "2"] {
            fs::write(&path, content).unwrap();
            comes_to_know(&files, &mut watch, &path, content).await;
        }
    });
}

/// One of several threads may stand still, but this one has no other.
#[test]
fn news_do_not_wait_for_a_runtime_whose_only_worker_stands_still() {
    let files = FileWatcher::new().probe_every(NEVER);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "0").unwrap();
    let first = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let first = first.unwrap();
    let _keep = first.block_on(files.watch(&path)).unwrap();
    let (stands_still, begun) = std::sync::mpsc::channel();
    let (go_on, end) = std::sync::mpsc::channel::<()>();
    first.spawn(async move {
        stands_still.send(()).unwrap();
        let _ = end.recv();
    });
    begun.recv().unwrap();
    let second = tokio::runtime::Runtime::new().unwrap();
    let known = second.block_on(async {
        let mut watch = files.watch(&path).await.unwrap();
        fs::write(&path, "1").unwrap();
        let known = comes_to_know(&files, &mut watch, &path, "1");
        timeout(DEADLINE / 4, known).await
    });
    drop(go_on);
    assert!(known.is_ok(), "it was told too late");
}

#[tokio::test]
async fn never_and_all_the_time_can_be_set() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "0").unwrap();
    for every in [Duration::ZERO, Duration::MAX] {
        let files = FileWatcher::new().probe_every(every).retry_every(every);
        // This one is looked at.
        let mut made_up = files.watch(Path::new("/proc/self/stat")).await.unwrap();
        let _ = timeout(Duration::from_millis(10), made_up.changed()).await;
        let mut watch = files.watch(&path).await.unwrap();
        fs::write(&path, format!("{every:?}")).unwrap();
        comes_to_know(&files, &mut watch, &path, &format!("{every:?}")).await;
    }
}

#[test]
fn a_relative_path_is_of_the_directory_that_was_the_current_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let files = FileWatcher::new().probe_every(NEVER);
        // Tests run in the package's own directory.
        let directory = tempfile::tempdir_in(".").unwrap();
        let path = PathBuf::from(directory.path().file_name().unwrap()).join("f");
        assert!(path.is_relative());
        let mut watch = files.watch(&path).await.unwrap();
        fs::write(&path, "1").unwrap();
        comes_to_know(&files, &mut watch, &path, "1").await;
        assert!(files.watch(Path::new("")).await.is_err());
    });
}

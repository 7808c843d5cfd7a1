//! Accesses to configuration files with a deadline, on threads of their own: a file system that does not answer
//! blocks neither a reload nor the shutdown.

use reloader_util::{
    blocking_pool::{BlockingError, BlockingPool},
    sync::Mutex,
};
use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::time::timeout;

static POOL: BlockingPool = BlockingPool::new("reloader-config", 4);

/// Time after which an access that has not returned is an error.
pub(crate) const ACCESS_TIMEOUT: Duration = Duration::from_secs(10);

/// Reason why an access has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    /// The file system does not answer.
    #[error("the file system has not answered for {}", humantime::format_duration(*.0))]
    NoAnswer(Duration),
    /// The access panicked, or no thread is available.
    #[error(transparent)]
    Failed(#[from] BlockingError),
}

/// Paths of accesses that have not returned in time. Until they return, further accesses to these paths fail at once:
/// each one would block another thread.
static UNANSWERED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Access to a path, from its creation to its return.
#[derive(Clone)]
struct Access {
    path: PathBuf,
    limit: Duration,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Default)]
struct Progress {
    /// Set while a thread makes the access. A queued access blocks no thread.
    is_running: bool,
    /// Set when the caller has given up.
    is_overdue: bool,
}

impl Progress {
    fn is_unanswered(&self) -> bool {
        self.is_running && self.is_overdue
    }
}

impl Access {
    /// Returns an access, unless an earlier one to the same path has not returned in time.
    fn new(path: &Path, limit: Duration) -> Result<Self, AccessError> {
        if UNANSWERED.lock().contains(path) {
            return Err(AccessError::NoAnswer(limit));
        }
        Ok(Self { path: path.into(), limit, progress: Arc::default() })
    }

    /// Returns the operation, which records its start and its return.
    fn operation<R, F: FnOnce() -> R>(&self, access: F) -> impl FnOnce() -> R + use<R, F> {
        let running = self.clone();
        move || {
            let _running = RunningAccess::new(running);
            access()
        }
    }

    /// Records that the access has not returned in time, and returns the error.
    fn no_answer(&self) -> AccessError {
        self.update(|progress| progress.is_overdue = true);
        AccessError::NoAnswer(self.limit)
    }

    /// Changes the progress, and adds the path to [`UNANSWERED`] or removes it accordingly.
    fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock();
        let was_unanswered = progress.is_unanswered();
        change(&mut progress);
        match (was_unanswered, progress.is_unanswered()) {
            (false, true) => {
                UNANSWERED.lock().insert(self.path.clone());
            }
            (true, false) => {
                UNANSWERED.lock().remove(&self.path);
            }
            _ => {}
        }
    }
}

/// Access that a thread makes. Records the return on drop, also after a panic.
struct RunningAccess(Access);

impl RunningAccess {
    fn new(access: Access) -> Self {
        access.update(|progress| progress.is_running = true);
        Self(access)
    }
}

impl Drop for RunningAccess {
    fn drop(&mut self) {
        self.0.update(|progress| progress.is_running = false);
    }
}

/// Runs an access to a path on another thread, and waits for its result up to [`ACCESS_TIMEOUT`].
///
/// # Errors
///
/// The file system has not answered. The access may still be running.
pub(crate) async fn run<R: Send + 'static>(
    path: &Path,
    access: impl FnOnce() -> R + Send + 'static,
) -> Result<R, AccessError> {
    let running = Access::new(path, ACCESS_TIMEOUT)?;
    match timeout(ACCESS_TIMEOUT, POOL.spawn(running.operation(access))).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(running.no_answer()),
    }
}

/// Runs an access on another thread, and waits for its result, however long it takes. After [`ACCESS_TIMEOUT`], calls
/// `report` with the reason of the delay.
pub(crate) async fn run_unbounded<R: Send + 'static>(
    access: impl FnOnce() -> R + Send + 'static,
    report: impl FnOnce(&dyn fmt::Display),
) -> Result<R, BlockingError> {
    let mut running = POOL.spawn(access);
    if let Ok(result) = timeout(ACCESS_TIMEOUT, &mut running).await {
        return result;
    }
    report(&AccessError::NoAnswer(ACCESS_TIMEOUT));
    running.await
}

/// Runs work that waits for accesses itself, on another thread.
pub(crate) async fn run_composite<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, BlockingError> {
    POOL.spawn(work).await
}

/// Like [`run`], but blocks the current thread.
pub(crate) fn wait_for<R: Send + 'static>(
    path: &Path,
    access: impl FnOnce() -> R + Send + 'static,
) -> Result<R, AccessError> {
    wait_within(path, ACCESS_TIMEOUT, access)
}

/// Like [`wait_for`], with another timeout.
fn wait_within<R: Send + 'static>(
    path: &Path,
    limit: Duration,
    access: impl FnOnce() -> R + Send + 'static,
) -> Result<R, AccessError> {
    let running = Access::new(path, limit)?;
    let operation = running.operation(access);
    let (sender, results) = mpsc::channel();
    // A task that is dropped before its start never starts.
    let _task = POOL.spawn(move || {
        let _ = sender.send(operation());
    });
    results.recv_timeout(limit).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => running.no_answer(),
        mpsc::RecvTimeoutError::Disconnected => {
            AccessError::Failed(BlockingError::Panicked("the thread ended".into()))
        }
    })
}

/// Runs an access for each path on another thread, and blocks the current one. If an access does not return within
/// `limit`, returns the results before it. Omits paths for which an earlier access has not returned.
pub(crate) fn wait_for_each<R: Send + 'static>(
    paths: &[PathBuf],
    limit: Duration,
    access: fn(&Path) -> R,
) -> Vec<R> {
    let accesses = paths.iter().filter_map(|path| Access::new(path, limit).ok());
    let accesses: Vec<_> = accesses.collect();
    let operation = |running: &Access| {
        let path = running.path.clone();
        running.operation(move || access(&path))
    };
    let operations: Vec<_> = accesses.iter().map(operation).collect();
    let (sender, results) = mpsc::channel();
    let task = POOL.spawn(move || {
        for operation in operations {
            if sender.send(operation()).is_err() {
                break;
            }
        }
    });
    let mut found = Vec::new();
    for running in accesses {
        match results.recv_timeout(limit) {
            Ok(result) => found.push(result),
            Err(error) => {
                if error == mpsc::RecvTimeoutError::Timeout {
                    running.no_answer();
                }
                break;
            }
        }
    }
    drop(task);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn blocked_access_delays_no_other_path() {
        let (_release, released) = mpsc::channel::<()>();
        let limit = Duration::from_millis(1);
        let error = wait_within(Path::new("/a"), limit, move || released.recv()).unwrap_err();
        assert_eq!(error.to_string(), "the file system has not answered for 1ms");
        assert_eq!(wait_for(Path::new("/b"), || 7).unwrap(), 7);
    }

    /// Starts an access on a thread of its own, and returns after its start. The access ends when the sender of its
    /// result is used.
    fn start(access: &Access) -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
        let (has_started, started) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let operation = access.operation(move || {
            has_started.send(()).expect("the test waits for the start");
            released.recv().expect("the access is released");
        });
        let thread = thread::spawn(operation);
        started.recv_timeout(Duration::from_secs(60)).expect("the access starts");
        (release, thread)
    }

    /// Each retry would block another thread.
    #[test]
    fn blocked_path_is_not_accessed_again() {
        let path = Path::new("/retried");
        let access = Access::new(path, ACCESS_TIMEOUT).unwrap();
        let (release, thread) = start(&access);
        access.no_answer();
        wait_for(path, || unreachable!("the path is accessed again")).unwrap_err();
        release.send(()).unwrap();
        thread.join().unwrap();
        wait_for(path, || ()).unwrap();
    }

    #[test]
    fn panic_after_the_timeout_ends_the_access() {
        let path = Path::new("/panicked");
        let access = Access::new(path, ACCESS_TIMEOUT).unwrap();
        let (release, thread) = start(&access);
        access.no_answer();
        drop(release);
        thread.join().unwrap_err();
        wait_for(path, || ()).unwrap();
    }

    /// An access that was queued until the timeout never starts, so that it blocks no thread.
    #[test]
    fn queued_access_does_not_prevent_the_next_one() {
        let path = Path::new("/queued");
        let access = Access::new(path, ACCESS_TIMEOUT).unwrap();
        let operation = access.operation(|| ());
        access.no_answer();
        wait_for(path, || ()).unwrap();
        drop(operation);
    }

    #[test]
    fn panicked_access_of_several_prevents_no_later_one() {
        let paths = ["/first", "/second"].map(PathBuf::from);
        let access = |path: &Path| assert_ne!(path, Path::new("/first"), "by the test");
        assert_eq!(wait_for_each(&paths, ACCESS_TIMEOUT, access), []);
        for path in &paths {
            wait_for(path, || ()).unwrap();
        }
    }

    #[test]
    fn results_before_a_blocked_access_are_returned() {
        static RELEASE: Mutex<()> = Mutex::new(());
        let access = |path: &Path| {
            if path == Path::new("/3") {
                drop(RELEASE.lock());
            }
            path.to_owned()
        };
        let paths = ["/1", "/2", "/3", "/4"].map(PathBuf::from);
        let blocked = RELEASE.lock();
        let results = wait_for_each(&paths, Duration::from_secs(2), access);
        assert_eq!(results, paths[..2]);
        let results = wait_for_each(&paths, Duration::from_secs(10), access);
        assert_eq!(results, ["/1", "/2", "/4"].map(PathBuf::from), "`/3` is omitted");
        drop(blocked);
    }

    #[tokio::test(start_paused = true)]
    async fn long_access_is_reported_and_awaited() {
        let (release, released) = mpsc::channel::<()>();
        let mut reported = String::new();
        let result = run_unbounded(
            move || released.recv().is_err(),
            |error| {
                reported = error.to_string();
                drop(release);
            },
        );
        assert!(result.await.unwrap());
        assert_eq!(reported, "the file system has not answered for 10s");
    }
}

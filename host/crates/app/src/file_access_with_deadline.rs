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
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
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

/// Access to a path, from its start to its return.
struct Access {
    path: PathBuf,
    limit: Duration,
    /// Set when the access has returned. Changes under the lock of [`UNANSWERED`].
    has_returned: Arc<AtomicBool>,
}

impl Access {
    /// Returns an access, unless an earlier one to the same path has not returned in time.
    fn new(path: &Path, limit: Duration) -> Result<Self, AccessError> {
        if UNANSWERED.lock().contains(path) {
            return Err(AccessError::NoAnswer(limit));
        }
        Ok(Self { path: path.into(), limit, has_returned: Arc::default() })
    }

    /// Returns the operation, which records its return.
    fn operation<R, F: FnOnce() -> R>(&self, access: F) -> impl FnOnce() -> R + use<R, F> {
        let (path, has_returned) = (self.path.clone(), Arc::clone(&self.has_returned));
        move || {
            let result = access();
            let mut unanswered = UNANSWERED.lock();
            has_returned.store(true, Ordering::Relaxed);
            unanswered.remove(&path);
            drop(unanswered);
            result
        }
    }

    /// Records that the access has not returned in time, and returns the error.
    fn no_answer(self) -> AccessError {
        let mut unanswered = UNANSWERED.lock();
        if !self.has_returned.load(Ordering::Relaxed) {
            unanswered.insert(self.path);
        }
        AccessError::NoAnswer(self.limit)
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
            Err(_) => {
                running.no_answer();
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

    #[test]
    fn blocked_access_delays_no_other_path() {
        let (_release, released) = mpsc::channel::<()>();
        let limit = Duration::from_millis(1);
        let error = wait_within(Path::new("/a"), limit, move || released.recv()).unwrap_err();
        assert_eq!(error.to_string(), "the file system has not answered for 1ms");
        assert_eq!(wait_for(Path::new("/b"), || 7).unwrap(), 7);
    }

    /// Each retry would block another thread.
    #[test]
    fn blocked_path_is_not_accessed_again() {
        let path = Path::new("/retried");
        let (release, released) = mpsc::channel::<()>();
        let limit = Duration::from_millis(1);
        wait_within(path, limit, move || released.recv()).unwrap_err();
        wait_for(path, || unreachable!("the path is accessed again")).unwrap_err();
        drop(release);
        while wait_for(path, || ()).is_err() {}
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
        let results = wait_for_each(&paths, Duration::from_millis(200), access);
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

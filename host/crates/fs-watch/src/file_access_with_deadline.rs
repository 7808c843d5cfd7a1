//! Single blocking accesses to files, each with a deadline, for callers that rarely access files.
//!
//! An access that exceeds its deadline continues on its thread. Until it returns, further accesses to the same path
//! fail at once, because each of them would block another thread.

use crate::{file_access_per_owner::POOL, file_system_slots::slots_of};
use reloader_util::{
    blocking_pool::{BlockingError, block_on_within},
    sync::Mutex,
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::timeout;

/// Reason why a file access has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileAccessError {
    /// The access has not returned within this time, or an earlier access to the same path has not returned yet.
    #[error("the file system has not answered for {0:?}")]
    NoAnswer(Duration),
    /// The access panicked, or no thread is available.
    #[error(transparent)]
    Failed(#[from] BlockingError),
}

impl From<FileAccessError> for io::Error {
    fn from(error: FileAccessError) -> Self {
        match error {
            FileAccessError::NoAnswer(_) => Self::new(io::ErrorKind::TimedOut, error),
            FileAccessError::Failed(error) => error.into(),
        }
    }
}

/// Runs a blocking access to the files at or below `path` on another thread, and waits for its result for `limit` at
/// most.
///
/// # Errors
///
/// Returns an error if the access has not returned within `limit`, or if an earlier access to the same path exceeded
/// its limit and has not returned yet. Also returns an error if the access panicked, or if no thread is available.
pub async fn access_within<R: Send + 'static>(
    path: &Path,
    limit: Duration,
    access: impl FnOnce() -> R + Send + 'static,
) -> Result<R, FileAccessError> {
    let tracker = Tracker::new(path, limit)?;
    let result = timeout(limit, tracker.run(access)).await;
    tracker.finish(result.ok())
}

/// Like [`access_within`], but blocks the current thread. Needs no async runtime.
///
/// # Errors
///
/// See [`access_within`].
pub fn access_within_blocking<R: Send + 'static>(
    path: &Path,
    limit: Duration,
    access: impl FnOnce() -> R + Send + 'static,
) -> Result<R, FileAccessError> {
    let tracker = Tracker::new(path, limit)?;
    let result = block_on_within(limit, tracker.run(access));
    tracker.finish(result)
}

/// Paths of the accesses that have exceeded their limits and have not returned, with the number of these accesses.
static UNANSWERED: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// Records the progress of one access, from its creation to its return.
#[derive(Clone)]
struct Tracker {
    path: PathBuf,
    limit: Duration,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Default)]
struct Progress {
    /// A thread of the pool runs the access. A queued access is not running, and blocks no thread.
    is_running: bool,
    /// The access has exceeded its limit, and the caller no longer waits.
    is_overdue: bool,
}

impl Progress {
    fn is_unanswered(&self) -> bool {
        self.is_running && self.is_overdue
    }
}

impl Tracker {
    /// Fails if an earlier access to the same path has exceeded its limit and has not returned.
    fn new(path: &Path, limit: Duration) -> Result<Self, FileAccessError> {
        if UNANSWERED.lock().contains_key(path) {
            return Err(FileAccessError::NoAnswer(limit));
        }
        Ok(Self { path: path.into(), limit, progress: Arc::default() })
    }

    /// Runs the access on a thread of the pool, as soon as the file system of the path has a free slot.
    fn run<R: Send + 'static, F: FnOnce() -> R + Send + 'static>(
        &self,
        access: F,
    ) -> impl Future<Output = Result<R, BlockingError>> + use<R, F> {
        let slots = slots_of(&self.path);
        let operation = self.operation(access);
        async move {
            // Always `Ok`, because the semaphore is never closed.
            let slot = slots.acquire_owned().await;
            let task = POOL.spawn(move || {
                // A blocked access occupies its slot until it returns.
                let _slot = slot;
                operation()
            });
            task.await
        }
    }

    /// Returns an operation that performs the access and records its start and its return.
    fn operation<R, F: FnOnce() -> R>(&self, access: F) -> impl FnOnce() -> R + use<R, F> {
        let tracker = self.clone();
        move || {
            let _running = Running::new(tracker);
            access()
        }
    }

    /// Converts the result of the access. `None` means that the limit has passed: the access is recorded as overdue.
    fn finish<R>(&self, result: Option<Result<R, BlockingError>>) -> Result<R, FileAccessError> {
        let Some(result) = result else {
            self.update(|progress| progress.is_overdue = true);
            return Err(FileAccessError::NoAnswer(self.limit));
        };
        Ok(result?)
    }

    /// Changes the progress. Adds the access to [`UNANSWERED`] if it is now both running and overdue, and removes it if
    /// it has returned.
    fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock();
        let was_unanswered = progress.is_unanswered();
        change(&mut progress);
        match (was_unanswered, progress.is_unanswered()) {
            (false, true) => *UNANSWERED.lock().entry(self.path.clone()).or_default() += 1,
            (true, false) => {
                if let Entry::Occupied(mut count) = UNANSWERED.lock().entry(self.path.clone()) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            }
            _ => {}
        }
    }
}

/// Guard of a running access. Records the return of the access on drop, also after a panic.
struct Running(Tracker);

impl Running {
    fn new(tracker: Tracker) -> Self {
        tracker.update(|progress| progress.is_running = true);
        Self(tracker)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.update(|progress| progress.is_running = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread, time::Instant};

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn blocked_access_delays_no_other_path() {
        let (_release, released) = mpsc::channel::<()>();
        let limit = Duration::from_millis(1);
        let error = access_within_blocking(Path::new("/a"), limit, move || released.recv());
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), "the file system has not answered for 1ms");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
        assert_eq!(access_within_blocking(Path::new("/b"), LIMIT, || 7), Ok(7));
    }

    /// Starts an access on a thread of its own, and waits for its start. The access ends when the test sends a message
    /// to the returned sender, and panics when the sender is dropped.
    fn start(tracker: &Tracker) -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
        let (has_started, started) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let operation = tracker.operation(move || {
            has_started.send(()).expect("the test waits for the start");
            released.recv().expect("the access is released");
        });
        let thread = thread::spawn(operation);
        started.recv_timeout(LIMIT).expect("the access starts");
        (release, thread)
    }

    fn time_out(tracker: &Tracker) {
        tracker.finish::<()>(None).unwrap_err();
    }

    /// Two accesses to one path are blocked. Further accesses fail until both have returned.
    #[test]
    fn blocked_path_is_not_accessed_again() {
        let path = Path::new("/retried");
        let trackers = [Tracker::new(path, LIMIT).unwrap(), Tracker::new(path, LIMIT).unwrap()];
        let [first, second] = trackers.each_ref().map(|tracker| {
            let started = start(tracker);
            time_out(tracker);
            started
        });
        for (release, thread) in [first, second] {
            access_within_blocking(path, LIMIT, || panic!("the path is accessed again"))
                .unwrap_err();
            release.send(()).unwrap();
            thread.join().unwrap();
        }
        access_within_blocking(path, LIMIT, || ()).unwrap();
    }

    #[test]
    fn panic_after_the_timeout_ends_the_access() {
        let path = Path::new("/panicked");
        let tracker = Tracker::new(path, LIMIT).unwrap();
        let (release, thread) = start(&tracker);
        time_out(&tracker);
        drop(release);
        thread.join().unwrap_err();
        access_within_blocking(path, LIMIT, || ()).unwrap();
    }

    /// An access that is still queued at its timeout blocks no thread, so another access to its path runs.
    #[test]
    fn queued_access_does_not_prevent_the_next_one() {
        let path = Path::new("/queued");
        let tracker = Tracker::new(path, LIMIT).unwrap();
        let operation = tracker.operation(|| ());
        time_out(&tracker);
        access_within_blocking(path, LIMIT, || ()).unwrap();
        drop(operation);
    }

    #[test]
    fn panicked_access_is_an_error() {
        let path = Path::new("/panicking");
        let error = access_within_blocking(path, LIMIT, || panic!("by the test")).map(|(): ()| ());
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), "the operation panicked: by the test");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Other);
        access_within_blocking(path, LIMIT, || ()).unwrap();
    }

    /// Of 128 hanging accesses to one file system, 64 occupy a thread. An access to another file system runs.
    #[tokio::test]
    async fn hung_file_system_occupies_a_limited_number_of_threads() {
        use crate::file_system_slots::MAX_ACCESSES_PER_FILE_SYSTEM;
        let (started, starts) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let accesses = (0..2 * MAX_ACCESSES_PER_FILE_SYSTEM).map(|number| {
            let (started, released) = (started.clone(), Arc::clone(&released));
            let path = PathBuf::from(format!("/hung files/{number}"));
            tokio::spawn(async move {
                access_within(&path, LIMIT, move || {
                    let _ = started.send(());
                    let _ = released.lock().recv();
                })
                .await
            })
        });
        let accesses: Vec<_> = accesses.collect();
        let end = Instant::now() + LIMIT;
        let mut running = 0;
        while running < MAX_ACCESSES_PER_FILE_SYSTEM {
            running += starts.try_iter().count();
            assert!(Instant::now() < end, "only {running} accesses run");
            tokio::task::yield_now().await;
        }
        assert_eq!(access_within(Path::new("/other files/x"), LIMIT, || 7).await, Ok(7));
        assert_eq!(starts.try_iter().count(), 0, "more accesses than slots");
        drop(release);
        for access in accesses {
            access.await.unwrap().unwrap();
        }
    }
}

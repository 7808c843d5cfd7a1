//! Blocking jobs of one sink or validator, run one at a time on threads of a pool. The shutdown of the host does
//! not wait for these threads.

use reloader_fs_watch::file_system_slots;
use reloader_util::{
    blocking_pool::{BlockingError, BlockingPool},
    sync::Mutex,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{sync::OwnedMutexGuard, time::Instant};

/// Stack size of a pool thread, in bytes. Parsers and templates recurse.
const STACK_BYTES: usize = 2 << 20;
/// Threads for the blocking operations of sinks and validators.
pub(crate) static POOL: BlockingPool =
    BlockingPool::new("reloader-sinks", 64).with_stack_bytes(STACK_BYTES);

/// Blocking operation that occupies a thread, e.g. a read from a file system that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockingOperation {
    /// The operation, as a noun phrase: "reading `/etc/app.j2`".
    pub description: String,
    /// Possible reason if the operation does not return: "the file system may not answer".
    pub possible_cause: &'static str,
    /// Time at which the operation started.
    pub since: Instant,
    /// File that the operation accesses, if its file system limits the number of concurrent operations. See
    /// [`file_system_slots`].
    path: Option<PathBuf>,
}

impl BlockingOperation {
    /// Describes an operation that starts now.
    pub fn new(description: impl Into<String>, possible_cause: &'static str) -> Self {
        Self { description: description.into(), possible_cause, since: Instant::now(), path: None }
    }

    /// Returns an operation on files that starts now.
    pub(crate) fn on_files(description: impl Into<String>) -> Self {
        Self::new(description, "the file system may not answer")
    }

    /// Returns an operation on one file, described by `verb` (e.g. "reading") and the path. Its job waits for a free
    /// slot of the file system, so that a file system that does not answer occupies a limited number of threads.
    pub(crate) fn on_file(verb: &str, path: &Path) -> Self {
        let description = format!("{verb} `{}`", path.display());
        Self { path: Some(path.into()), ..Self::on_files(description) }
    }
}

/// Shows the message for an operation that has exceeded its deadline. The message contains no duration, so that
/// repeated failures have the same text.
impl fmt::Display for BlockingOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has not returned; {}", self.description, self.possible_cause)
    }
}

/// Runs blocking jobs on threads of [`POOL`], one at a time. All jobs access the same state `T`.
///
/// A job cannot be cancelled: it runs to its end, even if a timeout has dropped the future of [`run`](Self::run).
/// The next job starts after that, so that a sink or validator occupies one thread at most.
#[derive(Debug, Default)]
pub(crate) struct BlockingJobs<T = ()> {
    state: Arc<tokio::sync::Mutex<T>>,
    operation: Arc<Mutex<Option<BlockingOperation>>>,
}

impl<T: Send + 'static> BlockingJobs<T> {
    /// Waits for the previous job, and runs `job`.
    ///
    /// # Errors
    ///
    /// Returns an error if the job panics, or if all threads of [`POOL`] are blocked.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        operation: BlockingOperation,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, BlockingError> {
        let state = Arc::clone(&self.state).lock_owned().await;
        self.start(BlockingOperation { since: Instant::now(), ..operation }, state, job).await
    }

    /// Runs `job`. Returns `None` at once, without running `job`, if another job runs.
    ///
    /// # Errors
    ///
    /// See [`run`](Self::run).
    pub(crate) async fn try_run<R: Send + 'static>(
        &self,
        operation: BlockingOperation,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Option<Result<R, BlockingError>> {
        let state = Arc::clone(&self.state).try_lock_owned().ok()?;
        Some(self.start(operation, state, job).await)
    }

    /// Reads the state on the calling thread. Returns `None` while a job runs.
    pub(crate) fn try_read<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        self.state.try_lock().ok().map(|state| read(&state))
    }

    /// Returns the blocking operation that the running job executes, or `None` if no job runs.
    pub(crate) fn operation(&self) -> Option<BlockingOperation> {
        self.operation.lock().clone()
    }

    async fn start<R: Send + 'static>(
        &self,
        operation: BlockingOperation,
        state: OwnedMutexGuard<T>,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, BlockingError> {
        let slots = operation.path.as_deref().map(file_system_slots);
        *self.operation.lock() = Some(operation);
        let mut running = Running { operation: Arc::clone(&self.operation), state };
        let slot = match slots {
            Some(slots) => slots.acquire_owned().await.ok(),
            None => None,
        };
        let job = move || {
            // Holds the slot of the file system until the job ends, so that blocked jobs count towards the limit.
            let _slot = slot;
            job(&mut running.state)
        };
        POOL.spawn(job).await
    }
}

/// A running job, or one that waits for a slot or a thread.
struct Running<T> {
    operation: Arc<Mutex<Option<BlockingOperation>>>,
    /// Lock of the state. It is released after [`drop`](Running::drop) has cleared `operation`.
    state: OwnedMutexGuard<T>,
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        *self.operation.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};
    use tokio::{sync::oneshot, time::timeout};

    fn reading() -> BlockingOperation {
        BlockingOperation::on_files("reading `/mnt/x`")
    }

    /// Starts a job that blocks until the returned sender is dropped, and drops the future that waits for the job.
    async fn abandon_blocked_job(jobs: &BlockingJobs<Vec<u32>>) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (sender, started) = oneshot::channel();
        let job = jobs.run(reading(), move |seen| {
            let _ = sender.send(());
            let _ = released.recv();
            seen.push(1);
        });
        tokio::select! {
            _ = job => panic!("the job blocks"),
            started = started => started.expect("the job starts"),
        }
        release
    }

    /// A job that has timed out still runs, and the next one starts after it.
    #[tokio::test]
    async fn abandoned_job_delays_the_next_one() {
        let jobs = BlockingJobs::<Vec<u32>>::default();
        let release = abandon_blocked_job(&jobs).await;
        let operation = jobs.operation().expect("the job still runs");
        assert_eq!(
            operation.to_string(),
            "reading `/mnt/x` has not returned; the file system may not answer"
        );
        assert!(jobs.try_run(reading(), |_| ()).await.is_none(), "the job still runs");
        let second = jobs.run(reading(), |seen| {
            seen.push(2);
            seen.clone()
        });
        let mut second = std::pin::pin!(second);
        timeout(Duration::from_millis(1), &mut second).await.expect_err("the next job waits");
        drop(release);
        assert_eq!(second.await.expect("the second job"), [1, 2]);
        assert_eq!(jobs.operation(), None);
    }

    #[tokio::test]
    async fn panicked_job_does_not_block_the_next_one() {
        let jobs = BlockingJobs::<()>::default();
        jobs.run(reading(), |()| panic!("a job")).await.expect_err("a panic");
        assert_eq!(jobs.run(reading(), |()| 7).await.expect("the next job"), 7);
        assert_eq!(jobs.operation(), None);
    }

    /// Sinks on a file system that does not answer must not occupy all threads of the runtime, and the end of
    /// the runtime must not wait for them.
    #[test]
    fn blocked_jobs_delay_neither_other_owners_nor_shutdown() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let releases = runtime.block_on(async {
            let mut releases = Vec::new();
            for _ in 0..80 {
                releases.push(abandon_blocked_job(&BlockingJobs::default()).await);
            }
            let other = BlockingJobs::<()>::default();
            assert_eq!(other.run(reading(), |()| 7).await, Ok(7));
            releases
        });
        drop(runtime);
        drop(releases);
    }
}

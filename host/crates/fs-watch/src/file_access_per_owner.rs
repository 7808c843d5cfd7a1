//! Blocking accesses to files on threads of their own, with a deadline.
//!
//! A file system that does not answer blocks each access, and a blocked access cannot be interrupted. Therefore the
//! number of concurrent accesses is limited for each owner ([`MAX_CONCURRENT_ACCESSES`]) and for each file system. An
//! access that exceeds its deadline is reported as an error. An owner is one user of files, such as a source.

use crate::file_system_slots::slots_of;
use reloader_util::blocking_pool::{BlockingError, BlockingPool, BlockingTask};
use std::{
    fmt, io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

/// Default timeout of an access to a file. Longer than the read of a large file from a slow server takes.
pub(crate) const ACCESS_TIMEOUT: Duration = Duration::from_secs(10);

/// Thread pool for all file accesses, which may block.
pub(crate) static POOL: BlockingPool = BlockingPool::new("reloader-files", 64);

/// Maximum number of concurrent accesses of an owner: one for its watch and one for a read.
const MAX_CONCURRENT_ACCESSES: usize = 2;

/// Concurrency limit and timeout of the file accesses of one owner.
#[derive(Debug, Clone)]
pub struct FileAccess {
    slots: Arc<Semaphore>,
    pub(crate) timeout: Duration,
}

impl FileAccess {
    /// Creates the concurrency limit of one owner. An access that has not returned within `timeout` is reported as an
    /// error.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { slots: Arc::new(Semaphore::new(MAX_CONCURRENT_ACCESSES)), timeout }
    }

    /// Creates the concurrency limit of another owner, with the same timeout.
    pub(crate) fn of_another_owner(&self) -> Self {
        Self::new(self.timeout)
    }

    /// Starts an access to `path` as soon as a slot is free both of this `FileAccess` and of the file system of `path`.
    pub fn start<R: Send + 'static>(
        &self,
        path: &Path,
        access: impl FnOnce() -> R + Send + 'static,
    ) -> RunningAccess<R> {
        // The first access of a watcher starts the listener of file events, as a task of the caller's runtime.
        let runtime = Handle::try_current().ok();
        let run = move |slots: [OwnedSemaphorePermit; 2]| {
            POOL.spawn(move || {
                // A blocked access occupies its slots until it returns.
                let _slots = slots;
                let _context = runtime.as_ref().map(Handle::enter);
                access()
            })
        };
        let owner = Arc::clone(&self.slots);
        let file_system = slots_of(path);
        let free_slots = || {
            let owner = Arc::clone(&owner).try_acquire_owned().ok()?;
            Some([owner, Arc::clone(&file_system).try_acquire_owned().ok()?])
        };
        let result = match free_slots() {
            Some(slots) => AccessResult::Running(run(slots)),
            None => {
                let (mut sender, receiver) = oneshot::channel();
                tokio::spawn(async move {
                    let slots = async {
                        let owner = owner.acquire_owned().await?;
                        Ok::<_, AcquireError>([owner, file_system.acquire_owned().await?])
                    };
                    let slots = tokio::select! {
                        slots = slots => slots,
                        () = sender.closed() => return,
                    };
                    // Always `Ok`, because the semaphores are never closed.
                    if let Ok(slots) = slots {
                        let _ = sender.send(run(slots).await);
                    }
                });
                AccessResult::Queued(receiver)
            }
        };
        let report_at = Instant::now() + self.timeout;
        RunningAccess { result, timeout: self.timeout, report_at }
    }
}

/// Future that returns the result of a file access.
enum AccessResult<R> {
    Running(BlockingTask<R>),
    /// The access waits for a free slot of its owner or its file system.
    Queued(oneshot::Receiver<Result<R, BlockingError>>),
}

impl<R> Future for AccessResult<R> {
    type Output = io::Result<R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match self.get_mut() {
            Self::Running(task) => ready!(Pin::new(task).poll(context)),
            Self::Queued(receiver) => match ready!(Pin::new(receiver).poll(context)) {
                Ok(result) => result,
                // The runtime shuts down and has dropped the sender.
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            },
        };
        Poll::Ready(result.map_err(io::Error::from))
    }
}

/// Access that runs on another thread, or waits for a free slot.
pub struct RunningAccess<R> {
    result: AccessResult<R>,
    timeout: Duration,
    report_at: Instant,
}

impl<R> RunningAccess<R> {
    /// Waits for the result. Cancel-safe: dropping the future loses no result.
    ///
    /// After an error of the kind [`TimedOut`](io::ErrorKind::TimedOut), the access continues, and the caller can call
    /// this method again. After any other result, the caller must not call it again.
    ///
    /// # Errors
    ///
    /// Returns an error if the access has not returned in time, if it panicked, or if no thread is available. The
    /// timeout starts with the call of [`FileAccess::start`], and again with each `TimedOut` error.
    pub async fn result(&mut self) -> io::Result<R> {
        match timeout_at(self.report_at, &mut self.result).await {
            Ok(result) => result,
            Err(_) => {
                self.report_at = Instant::now() + self.timeout;
                let message = format!("the file system has not answered for {:?}", self.timeout);
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
        }
    }

    /// Returns the result if the access has ended. After a result, the caller must not call this method again.
    pub(crate) fn try_result(&mut self) -> Option<io::Result<R>> {
        match Pin::new(&mut self.result).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}

impl<R> fmt::Debug for RunningAccess<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningAccess").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Starts an access that blocks until the returned sender is dropped.
    fn blocked(files: &FileAccess) -> (mpsc::Sender<()>, RunningAccess<()>) {
        let (release, released) = mpsc::channel::<()>();
        let access = files.start(Path::new("/mnt/f"), move || {
            let _ = released.recv();
        });
        (release, access)
    }

    #[tokio::test]
    async fn blocked_access_is_an_error_until_it_returns() {
        let files = FileAccess::new(Duration::from_millis(1));
        let (release, mut access) = blocked(&files);
        for _ in 0..2 {
            let error = access.result().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(error.to_string(), "the file system has not answered for 1ms");
        }
        drop(release);
        while access.result().await.is_err() {}
    }

    #[tokio::test]
    async fn access_runs_in_the_runtime_of_the_caller() {
        let files = FileAccess::new(Duration::from_secs(60));
        let mut access =
            files.start(Path::new("/mnt/f"), || Handle::try_current().map(|it| it.id()));
        assert_eq!(access.result().await.unwrap().unwrap(), Handle::current().id());
    }

    #[tokio::test]
    async fn blocked_accesses_delay_only_their_owner() {
        let files = FileAccess::new(Duration::from_millis(1));
        let mut accesses: Vec<_> = (0..MAX_CONCURRENT_ACCESSES).map(|_| blocked(&files)).collect();
        for (_, access) in &mut accesses {
            access.result().await.unwrap_err();
        }
        let mut next = files.start(Path::new("/mnt/g"), || 7);
        next.result().await.unwrap_err();
        let mut other = files.of_another_owner().start(Path::new("/other/f"), || 8);
        let other = loop {
            if let Ok(other) = other.result().await {
                break other;
            }
        };
        assert_eq!(other, 8);
        drop(accesses);
        while next.result().await.is_err() {}
    }
}

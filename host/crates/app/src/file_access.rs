//! Accesses to configuration files with a deadline, on threads of their own: a file system that does not answer
//! blocks neither a reload nor the shutdown.

use reloader_util::blocking_pool::{BlockingError, BlockingPool};
use std::{fmt, iter, sync::mpsc, time::Duration};
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

/// Runs an access on another thread, and waits for its result up to [`ACCESS_TIMEOUT`].
///
/// # Errors
///
/// The file system has not answered. The access may still be running.
pub(crate) async fn run<R: Send + 'static>(
    access: impl FnOnce() -> R + Send + 'static,
) -> Result<R, AccessError> {
    match timeout(ACCESS_TIMEOUT, POOL.spawn(access)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(AccessError::NoAnswer(ACCESS_TIMEOUT)),
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
    access: impl FnOnce() -> R + Send + 'static,
) -> Result<R, AccessError> {
    wait_within(ACCESS_TIMEOUT, access)
}

/// Like [`wait_for`], with another timeout.
pub(crate) fn wait_within<R: Send + 'static>(
    limit: Duration,
    access: impl FnOnce() -> R + Send + 'static,
) -> Result<R, AccessError> {
    let (sender, results) = mpsc::channel();
    // A task that is dropped before its start never starts.
    let _task = POOL.spawn(move || {
        let _ = sender.send(access());
    });
    results.recv_timeout(limit).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => AccessError::NoAnswer(limit),
        mpsc::RecvTimeoutError::Disconnected => {
            AccessError::Failed(BlockingError::Panicked("the thread ended".into()))
        }
    })
}

/// Runs an access for each item on another thread, and blocks the current one. If an access does not return within
/// `limit`, returns the results before it.
pub(crate) fn wait_for_each<T: Send + 'static, R: Send + 'static>(
    items: Vec<T>,
    limit: Duration,
    access: impl Fn(T) -> R + Send + 'static,
) -> Vec<R> {
    let (sender, results) = mpsc::channel();
    let _task = POOL.spawn(move || {
        for item in items {
            if sender.send(access(item)).is_err() {
                break;
            }
        }
    });
    iter::from_fn(|| results.recv_timeout(limit).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_access_delays_no_other_one() {
        let (_release, released) = mpsc::channel::<()>();
        let error = wait_within(Duration::from_millis(1), move || released.recv()).unwrap_err();
        assert_eq!(error.to_string(), "the file system has not answered for 1ms");
        assert_eq!(wait_for(|| 7).unwrap(), 7);
    }

    #[test]
    fn results_before_a_blocked_access_are_returned() {
        let (_release, released) = mpsc::channel::<()>();
        let access = move |item| {
            if item == 3 {
                let _ = released.recv();
            }
            item
        };
        let results = wait_for_each(vec![1, 2, 3, 4], Duration::from_millis(200), access);
        assert_eq!(results, [1, 2]);
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

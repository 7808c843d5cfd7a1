//! Blocking jobs of one owner, one at a time.

use std::sync::Arc;
use tokio::{
    sync::Mutex,
    task::{JoinError, spawn_blocking},
};

/// Runs blocking jobs on a blocking thread, one at a time. The jobs share a state.
///
/// A job cannot be cancelled: it runs to its end, also after the future that waits for it has been
/// dropped at a timeout. The next job waits for it, so that an owner occupies one thread at most.
#[derive(Debug, Default)]
pub(crate) struct BlockingJobs<T = ()> {
    state: Arc<Mutex<T>>,
}

impl<T: Send + 'static> BlockingJobs<T> {
    /// Waits for the previous job, and runs `job`.
    ///
    /// # Errors
    ///
    /// Returns an error if the job panics or the runtime shuts down.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, JoinError> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        spawn_blocking(move || job(&mut state)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};
    use tokio::time::timeout;

    /// A job that has timed out still runs, and the next one starts after it.
    #[tokio::test]
    async fn abandoned_job_delays_the_next_one() {
        let jobs = BlockingJobs::<Vec<u32>>::default();
        let (release, released) = mpsc::channel::<()>();
        let first = jobs.run(move |seen| {
            let _ = released.recv();
            seen.push(1);
        });
        timeout(Duration::from_millis(1), first).await.expect_err("the job blocks");
        let second = jobs.run(|seen| {
            seen.push(2);
            seen.clone()
        });
        let mut second = std::pin::pin!(second);
        timeout(Duration::from_millis(1), &mut second).await.expect_err("the next job waits");
        release.send(()).expect("the first job runs");
        assert_eq!(second.await.expect("the second job"), [1, 2]);
    }

    #[tokio::test]
    async fn panicked_job_does_not_block_the_next_one() {
        let jobs = BlockingJobs::<()>::default();
        jobs.run(|()| panic!("a job")).await.expect_err("a panic");
        assert_eq!(jobs.run(|()| 7).await.expect("the next job"), 7);
    }
}

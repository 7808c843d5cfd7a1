//! Background threads that build long responses and events of many sources, so that the threads that deliver values
//! are not delayed.

use crate::problem::Problem;
use http::StatusCode;
use reloader_util::thread_priority_pool::{ThreadPool, ThreadPriority};

/// Number of threads, and so of long responses that are built at the same time.
const RENDER_THREADS: usize = 2;

/// Pool of background threads that build long responses and events.
pub(crate) struct RenderPool(ThreadPool);

impl RenderPool {
    pub(crate) fn new() -> Self {
        Self(ThreadPool::new("reloader-render", RENDER_THREADS, ThreadPriority::Background))
    }

    /// Runs a task on the pool, to its end even if the returned future is dropped. The task may compute for a long
    /// time.
    ///
    /// # Errors
    ///
    /// Returns a problem of status 500 if the task panics.
    pub(crate) async fn run<F>(&self, task: F) -> Result<F::Output, Problem>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        // If the pool could not start its threads, the task runs on an async worker thread.
        let running = self.0.spawn(task).unwrap_or_else(tokio::spawn);
        running.await.map_err(|error| {
            let detail = format!("the response could not be built: {error}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
        })
    }
}

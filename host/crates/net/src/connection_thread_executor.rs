//! Executor of HTTP connections: runs the tasks of `hyper` on the connection threads.

use hyper::rt::Executor;
use reloader_util::thread_priority_pool::ThreadPool;
use std::{
    future::Future,
    sync::{Arc, Weak},
};
use tokio::runtime::Handle;

/// Spawns tasks on the connection threads. Falls back to the current runtime if these threads have stopped or cannot
/// start.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionExecutor(Weak<ThreadPool>);

impl ConnectionExecutor {
    pub(crate) fn new(threads: &Arc<ThreadPool>) -> Self {
        Self(Arc::downgrade(threads))
    }

    /// Returns the runtime of the connection threads. The sockets must be opened in it, because a socket gets its
    /// readiness events from the runtime that opens it.
    pub(crate) fn handle(&self) -> Handle {
        let threads = self.0.upgrade();
        threads.and_then(|threads| threads.handle()).unwrap_or_else(Handle::current)
    }
}

impl<F> Executor<F> for ConnectionExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.handle().spawn(task);
    }
}

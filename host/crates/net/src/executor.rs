//! Where connections are looked after.

use hyper::rt::Executor;
use reloader_util::thread_pool::ThreadPool;
use std::{
    future::Future,
    sync::{Arc, Weak},
};
use tokio::runtime::Handle;

/// Starts tasks on threads for connections, as long as there are any; else where they are started.
#[derive(Debug, Clone)]
pub(crate) struct Tasks(Weak<ThreadPool>);

impl Tasks {
    pub(crate) fn on(threads: &Arc<ThreadPool>) -> Self {
        Self(Arc::downgrade(threads))
    }

    /// Whoever opens a connection there is told there first of what arrives.
    pub(crate) fn there(&self) -> Handle {
        let threads = self.0.upgrade();
        threads.and_then(|threads| threads.handle()).unwrap_or_else(Handle::current)
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.there().spawn(task);
    }
}

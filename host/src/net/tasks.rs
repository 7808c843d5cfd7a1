//! Where `hyper` has its connections looked after.

use crate::threads::Threads;
use hyper::rt::Executor;
use std::{
    future::Future,
    sync::{Arc, Weak},
};

/// Starts tasks on threads for connections, as long as there are any; else where they are started.
#[derive(Debug, Clone)]
pub(super) struct Tasks(Weak<Threads>);

impl Tasks {
    pub(super) fn on(threads: &Arc<Threads>) -> Self {
        Self(Arc::downgrade(threads))
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let left = match self.0.upgrade() {
            Some(threads) => threads.spawn(task).err(),
            None => Some(task),
        };
        if let Some(task) = left {
            tokio::spawn(task);
        }
    }
}

//! Threads for work that is not to hold up the program's own.

use std::{future::Future, sync::OnceLock};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

/// A few threads, started when they are needed first, which end with this.
#[derive(Debug)]
pub(crate) struct Threads {
    name: &'static str,
    number: usize,
    gives_way: bool,
    runtime: OnceLock<Option<Runtime>>,
}

impl Threads {
    /// With a name, as the system shows it.
    pub(crate) const fn new(name: &'static str, number: usize) -> Self {
        Self { name, number, gives_way: false, runtime: OnceLock::new() }
    }

    /// Whoever else wants the processor gets it first.
    pub(crate) const fn giving_way(mut self) -> Self {
        self.gives_way = true;
        self
    }

    /// Starts a task there; gives it back where there are no threads to be had.
    pub(crate) fn spawn<F>(&self, task: F) -> Result<JoinHandle<F::Output>, F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match self.runtime.get_or_init(|| self.start()) {
            Some(runtime) => Ok(runtime.spawn(task)),
            None => Err(task),
        }
    }

    fn start(&self) -> Option<Runtime> {
        let gives_way = self.gives_way;
        Builder::new_multi_thread()
            .worker_threads(self.number)
            .thread_name(self.name)
            .on_thread_start(move || {
                if gives_way {
                    give_way();
                }
            })
            // Who only waits is not to wait for those who compute. Not at each turn: whoever is woken then
            // comes before those in the queue, and one that yields all the time would always be the one.
            .event_interval(2)
            .global_queue_interval(3)
            .enable_all()
            .build()
            .ok()
    }
}

/// It may be dropped where nobody may wait for threads to end.
impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(Some(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whoever else wants the processor gets it before this thread.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    // On Linux this is a thread's own.
    let _ = rustix::process::nice(10);
}

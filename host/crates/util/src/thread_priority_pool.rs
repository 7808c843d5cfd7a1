//! Thread pools with a scheduling priority, for work that must not delay the program's own threads.

use crate::{panics, sync::Mutex};
use std::{
    future::Future,
    io,
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// Time slice that threads of the priorities `Shared` and `Background` request.
///
/// Since version 6.12, Linux preempts a running thread immediately by a woken thread that requests a shorter slice.
/// If all threads have the default slice (0.7 ms, or 2.8 ms with eight or more processors), the running thread keeps
/// the processor for its whole slice. A thread that sleeps before the end of each slice is then never preempted,
/// regardless of its nice value.
const LONG_SLICE: Duration = Duration::from_millis(5);

/// Increment of the nice value of background threads, relative to the nice value of the process.
const BACKGROUND_NICE: i32 = 10;

/// Scheduling priority of a thread, relative to other threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadPriority {
    /// Default scheduling of the system.
    Normal,
    /// Woken threads preempt this one: long time slice, normal nice value.
    Shared,
    /// Other threads take precedence over this one: long time slice, higher nice value.
    Background,
}

impl ThreadPriority {
    /// Applies the priority to the current thread. Has no effect if the system does not support or permit the
    /// priority.
    pub fn apply(self) {
        match self {
            Self::Normal => {}
            Self::Shared => set_schedule(0),
            Self::Background => set_schedule(BACKGROUND_NICE),
        }
    }
}

/// Pool of threads with a tokio runtime, started at the first use. Dropping the pool does not wait for its
/// threads.
#[derive(Debug)]
pub struct ThreadPool {
    name: &'static str,
    threads: usize,
    priority: ThreadPriority,
    runtime: OnceLock<Option<Runtime>>,
}

impl ThreadPool {
    /// Returns a pool of `threads` threads. Their name in the system is `name`.
    #[must_use]
    pub const fn new(name: &'static str, threads: usize, priority: ThreadPriority) -> Self {
        Self { name, threads, priority, runtime: OnceLock::new() }
    }

    /// Returns a handle of the runtime; `None` if the system cannot start threads.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        let runtime = self.runtime.get_or_init(|| self.start());
        runtime.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Spawns a task on the pool.
    ///
    /// # Errors
    ///
    /// Returns the task itself if the system cannot start threads.
    pub fn spawn<F>(&self, task: F) -> Result<JoinHandle<F::Output>, F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match self.handle() {
            Some(runtime) => Ok(runtime.spawn(task)),
            None => Err(task),
        }
    }

    fn start(&self) -> Option<Runtime> {
        // tokio panics if the system cannot start a thread.
        let started = can_start_threads(self.threads).and_then(|()| {
            panics::catch(|| self.build())
                .unwrap_or_else(|_| Err(io::Error::other("the system cannot start more threads")))
        });
        let error = match started {
            Ok(runtime) => return Some(runtime),
            Err(error) => error,
        };
        tracing::warn!(
            pool = self.name,
            %error,
            "thread pool not started, tasks run on other threads of the host"
        );
        None
    }

    fn build(&self) -> io::Result<Runtime> {
        let priority = self.priority;
        Builder::new_multi_thread()
            .worker_threads(self.threads)
            .thread_name(self.name)
            .on_thread_start(move || priority.apply())
            // Short intervals, so that tasks that compute do not starve tasks that wait for I/O. An interval of 1
            // would be too short: tasks that the I/O driver wakes run before queued tasks, so a task that always
            // yields would starve the queued tasks.
            .event_interval(2)
            .global_queue_interval(3)
            .enable_all()
            .build()
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        if let Some(Some(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts and ends this number of threads. Without this attempt, the message of tokio's panic would be printed.
fn can_start_threads(number: usize) -> io::Result<()> {
    let (wait, waiting) = mpsc::channel::<()>();
    let waiting = Arc::new(Mutex::new(waiting));
    let start = |_| {
        let waiting = Arc::clone(&waiting);
        thread::Builder::new().spawn(move || {
            // Ends when the sender is dropped.
            let _ = waiting.lock().recv();
        })
    };
    let started = (0..number).map(start).collect::<io::Result<Vec<_>>>();
    drop(wait);
    for thread in started? {
        let _ = thread.join();
    }
    Ok(())
}

/// Raises the nice value of the current thread and requests a long time slice.
#[cfg(target_os = "linux")]
fn set_schedule(nice_increment: i32) {
    // On Linux, each thread has its own nice value.
    let Ok(nice) = rustix::process::nice(nice_increment) else { return };
    let mut attributes = attributes();
    attributes.sched_flags = SCHED_FLAG_KEEP_POLICY;
    attributes.sched_nice = nice;
    attributes.sched_runtime = u64::try_from(LONG_SLICE.as_nanos()).unwrap_or(u64::MAX);
    #[allow(
        unsafe_code,
        reason = "neither `rustix` nor `nix` wraps this system call; it reads a local structure"
    )]
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

#[cfg(not(target_os = "linux"))]
fn set_schedule(_nice_increment: i32) {}

/// `SCHED_FLAG_KEEP_POLICY` of `sched_setattr(2)`.
#[cfg(target_os = "linux")]
const SCHED_FLAG_KEEP_POLICY: u64 = 8;

/// Returns scheduling attributes in which only the size of the structure is set.
#[cfg(target_os = "linux")]
fn attributes() -> libc::sched_attr {
    libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Returns the scheduling attributes of a thread with this priority.
    fn attributes_of(priority: ThreadPriority) -> libc::sched_attr {
        let pool = ThreadPool::new("test", 1, priority);
        let (sender, receiver) = std::sync::mpsc::channel();
        let task = async move {
            let mut found = attributes();
            let size = found.size;
            #[allow(
                unsafe_code,
                reason = "the system call writes to a local structure of this size"
            )]
            unsafe {
                libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0);
            }
            let _ = sender.send(found);
        };
        assert!(pool.spawn(task).is_ok());
        receiver.recv().expect("the task ran")
    }

    #[test]
    fn priority_sets_slice_and_nice_value() {
        use ThreadPriority::{Background, Normal, Shared};
        let [normal, shared, background] = [Normal, Shared, Background].map(attributes_of);
        assert_eq!(shared.sched_nice, normal.sched_nice);
        assert_eq!(background.sched_nice, (normal.sched_nice + BACKGROUND_NICE).min(19));
        // A kernel without custom slices reports zero.
        if normal.sched_runtime > 0 {
            assert_eq!(u128::from(shared.sched_runtime), LONG_SLICE.as_nanos());
            assert_eq!(u128::from(background.sched_runtime), LONG_SLICE.as_nanos());
        }
    }
}

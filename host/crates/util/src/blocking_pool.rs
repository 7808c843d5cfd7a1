//! Pools of threads for operations that may never return, such as access to files.
//!
//! A file system that stops answering blocks each thread that accesses it, and no thread can be interrupted. A
//! [`BlockingPool`] replaces threads that are blocked for long, so that other operations go on, and is never
//! waited for: neither dropping a task nor shutting down a tokio runtime waits for its threads.

use crate::{
    panics,
    sync::{Condvar, Mutex},
};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io, mem,
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Time after which a running operation counts as blocked, so that another thread may take its place.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// Time between two looks for blocked operations, while operations are queued.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Time after which an idle thread ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of threads of a pool. All but the active ones are blocked.
const MAX_THREADS: usize = 1024;
/// Default stack size of a thread, for operations that do not recurse.
const STACK_BYTES: usize = 256 << 10;

/// Operation with the sender of its result. It is called with `Err` if no thread can run it.
type Job = Box<dyn FnOnce(Result<(), BlockingError>) + Send>;

/// Pool of threads for operations that may never return.
///
/// Runs up to [`active_threads`](Self::new) operations at the same time. An operation that has been running for a
/// second no longer counts, so that blocked operations do not delay others. Operations above the number are queued.
/// Threads start on demand and end after ten idle seconds.
#[derive(Debug)]
pub struct BlockingPool {
    name: &'static str,
    active_threads: usize,
    stack_bytes: usize,
    state: Mutex<State>,
    queued: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle_threads: usize,
    /// Start times of the running operations, ordered by number, and so by time.
    running: BTreeMap<u64, Instant>,
    last_number: u64,
    /// A thread looks for blocked operations, since operations are queued.
    is_checking: bool,
}

/// Reason why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// The operation panicked with this message.
    #[error("the operation panicked: {0}")]
    Panicked(String),
    /// All threads of the pool are blocked, or the system cannot start one.
    #[error("no thread available: {blocked} operations of the pool `{pool}` have not returned")]
    NoThread {
        /// Name of the pool.
        pool: &'static str,
        /// Number of operations that are running.
        blocked: usize,
    },
}

impl From<BlockingError> for io::Error {
    fn from(error: BlockingError) -> Self {
        Self::other(error)
    }
}

/// Result of an operation in a [`BlockingPool`], in the future.
///
/// Dropping it does not interrupt a running operation. An operation that has not started never starts.
#[derive(Debug)]
pub struct BlockingTask<R>(oneshot::Receiver<Result<R, BlockingError>>);

impl<R> Future for BlockingTask<R> {
    type Output = Result<R, BlockingError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|result| {
            result.unwrap_or_else(|_| Err(BlockingError::Panicked("the thread ended".into())))
        })
    }
}

impl BlockingPool {
    /// Returns a pool whose threads have this name in the system (15 bytes at most on Linux), and which runs up to
    /// `active_threads` operations at the same time, in addition to blocked ones.
    #[must_use]
    pub const fn new(name: &'static str, active_threads: usize) -> Self {
        Self {
            name,
            active_threads,
            stack_bytes: STACK_BYTES,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                threads: 0,
                idle_threads: 0,
                running: BTreeMap::new(),
                last_number: 0,
                is_checking: false,
            }),
            queued: Condvar::new(),
        }
    }

    /// Returns the pool with another stack size of its threads, for operations that recurse. Default: 256 KiB.
    #[must_use]
    pub const fn with_stack_bytes(mut self, stack_bytes: usize) -> Self {
        self.stack_bytes = stack_bytes;
        self
    }

    /// Runs an operation on a thread of the pool.
    pub fn spawn<R: Send + 'static>(
        &'static self,
        operation: impl FnOnce() -> R + Send + 'static,
    ) -> BlockingTask<R> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |admitted| {
            if !sender.is_closed() {
                let run = |()| panics::catch(operation).map_err(BlockingError::Panicked);
                let _ = sender.send(admitted.and_then(run));
            }
        });
        let mut state = self.state.lock();
        if self.find_thread(&mut state) {
            state.queue.push_back(job);
            // The woken thread needs the lock.
            drop(state);
            self.queued.notify_one();
        } else {
            let error = self.no_thread(&state);
            drop(state);
            job(Err(error));
        }
        BlockingTask(receiver)
    }

    /// Makes sure that a thread takes one more operation from the queue. Returns `false` if none ever will.
    fn find_thread(&'static self, state: &mut State) -> bool {
        if state.idle_threads > state.queue.len() {
            return true;
        }
        let active = state.active_threads();
        if active < self.active_threads && state.threads < MAX_THREADS && self.start_thread(state) {
            return true;
        }
        if active == 0 {
            return false;
        }
        if !state.is_checking {
            let checker = thread::Builder::new().name(self.name.into()).stack_size(STACK_BYTES);
            state.is_checking = checker.spawn(|| self.check()).is_ok();
        }
        true
    }

    fn start_thread(&'static self, state: &mut State) -> bool {
        let thread = thread::Builder::new().name(self.name.into()).stack_size(self.stack_bytes);
        let is_started = thread.spawn(|| self.run()).is_ok();
        state.threads += usize::from(is_started);
        is_started
    }

    /// Runs queued operations until the thread has been idle for [`IDLE_TIMEOUT`], or is one too many.
    fn run(&'static self) {
        let mut state = self.state.lock();
        while state.active_threads() <= self.active_threads {
            if let Some(job) = state.queue.pop_front() {
                let number = state.start_operation();
                drop(state);
                job(Ok(()));
                state = self.state.lock();
                state.running.remove(&number);
                continue;
            }
            state.idle_threads += 1;
            state =
                self.queued.wait_timeout_while(state, IDLE_TIMEOUT, |state| state.queue.is_empty());
            state.idle_threads -= 1;
            if state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    /// Replaces blocked threads while operations are queued.
    fn check(&'static self) {
        loop {
            thread::sleep(CHECK_INTERVAL);
            let mut state = self.state.lock();
            while state.queue.len() > state.idle_threads
                && state.active_threads() < self.active_threads
                && state.threads < MAX_THREADS
                && self.start_thread(&mut state)
            {}
            let rejected = if state.active_threads() == 0 {
                mem::take(&mut state.queue)
            } else {
                VecDeque::new()
            };
            let error = self.no_thread(&state);
            state.is_checking = !state.queue.is_empty();
            let is_done = !state.is_checking;
            drop(state);
            for job in rejected {
                job(Err(error.clone()));
            }
            if is_done {
                return;
            }
        }
    }

    fn no_thread(&self, state: &State) -> BlockingError {
        BlockingError::NoThread { pool: self.name, blocked: state.running.len() }
    }
}

impl State {
    /// Returns the number of threads that are not blocked.
    fn active_threads(&self) -> usize {
        let now = Instant::now();
        let is_blocked = |start: &&Instant| now.duration_since(**start) >= BLOCKED_AFTER;
        self.threads - self.running.values().take_while(is_blocked).count()
    }

    fn start_operation(&mut self) -> u64 {
        self.last_number += 1;
        self.running.insert(self.last_number, Instant::now());
        self.last_number
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("queued", &self.queue.len())
            .field("threads", &self.threads)
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Runs an operation that blocks until the returned sender is dropped.
    fn block(pool: &'static BlockingPool) -> (mpsc::Sender<()>, BlockingTask<()>) {
        let (release, released) = mpsc::channel::<()>();
        let task = pool.spawn(move || {
            let _ = released.recv();
        });
        (release, task)
    }

    #[tokio::test]
    async fn blocked_operation_does_not_delay_the_next_one() {
        static POOL: BlockingPool = BlockingPool::new("test", 1);
        let blocked: Vec<_> = (0..3).map(|_| block(&POOL)).collect();
        assert_eq!(POOL.spawn(|| 7).await, Ok(7));
        for (release, task) in blocked {
            drop(release);
            task.await.expect("the operation returns after its release");
        }
    }

    #[tokio::test]
    async fn operations_above_the_number_are_queued() {
        static POOL: BlockingPool = BlockingPool::new("test", 2);
        let (running, finished) = (Mutex::new((0, 0)), 20);
        let running = std::sync::Arc::new(running);
        let tasks: Vec<_> = (0..finished)
            .map(|_| {
                let running = std::sync::Arc::clone(&running);
                POOL.spawn(move || {
                    let mut counts = running.lock();
                    counts.0 += 1;
                    counts.1 = counts.1.max(counts.0);
                    drop(counts);
                    thread::yield_now();
                    running.lock().0 -= 1;
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("each operation runs");
        }
        assert!(running.lock().1 <= 2);
    }

    #[tokio::test]
    async fn dropped_task_does_not_start() {
        static POOL: BlockingPool = BlockingPool::new("test", 1);
        let (release, blocked) = block(&POOL);
        let (sender, started) = mpsc::channel();
        drop(POOL.spawn(move || sender.send(())));
        drop(release);
        blocked.await.expect("the operation returns after its release");
        POOL.spawn(|| ()).await.expect("the queue is empty again");
        started.try_recv().expect_err("the operation was dropped");
    }

    #[tokio::test]
    async fn panicked_operation_is_an_error() {
        static POOL: BlockingPool = BlockingPool::new("test", 1);
        let result = POOL.spawn(|| -> u32 { panic!("by the test") }).await;
        assert_eq!(result, Err(BlockingError::Panicked("by the test".into())));
        assert_eq!(POOL.spawn(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn operation_is_rejected_if_all_threads_are_blocked() {
        static POOL: BlockingPool = BlockingPool::new("test", MAX_THREADS);
        let blocked: Vec<_> = (0..MAX_THREADS).map(|_| block(&POOL)).collect();
        let error = loop {
            match POOL.spawn(|| ()).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error, BlockingError::NoThread { pool: "test", blocked: MAX_THREADS });
        drop(blocked);
    }
}

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
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Time after which a running operation counts as blocked, so that another thread may take its place.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// Time between two checks for blocked operations, while operations are queued.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Time after which an idle thread ends, except the last one of its pool.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of threads of a pool, including threads that are blocked by their operations.
const MAX_THREADS: usize = 1024;
/// Default stack size of a thread, for operations that do not recurse.
const STACK_BYTES: usize = 256 << 10;

/// Function that runs an operation and sends its result. If no thread can run the operation, the function is called
/// with `Err`, and sends this error.
type Job = Box<dyn FnOnce(Result<(), BlockingError>) + Send>;

/// Pool of threads for operations that may never return.
///
/// Runs up to [`active_threads`](Self::new) operations at the same time. An operation that has been running for a
/// second no longer counts, so that blocked operations do not delay others. Operations above the number are queued.
/// Threads start on demand and end after ten idle seconds. The last thread stays, so that a pool that has been used
/// keeps working when the system cannot start more threads.
#[derive(Debug)]
pub struct BlockingPool {
    name: &'static str,
    active_threads: usize,
    max_threads: usize,
    blocked_after: Duration,
    idle_timeout: Duration,
    stack_bytes: usize,
    state: Mutex<State>,
    queued: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// Number of threads that wait for a job or have just started.
    idle_threads: usize,
    /// Start times of the running operations, ordered by number, and so by time.
    running: BTreeMap<u64, Instant>,
    last_number: u64,
    /// True while a thread runs `BlockingPool::check`.
    is_checking: bool,
}

/// Reason why an operation has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// The operation panicked with this message.
    #[error("the operation panicked: {0}")]
    Panicked(String),
    /// All threads of the pool are blocked, and it starts no more.
    #[error("no thread available: {blocked} operations of the pool `{pool}` have not returned")]
    AllBlocked {
        /// Name of the pool.
        pool: &'static str,
        /// Number of operations that have not returned.
        blocked: usize,
    },
    /// The pool has no thread, and the system cannot start one.
    #[error(
        "the system cannot start a thread for the pool `{pool}` (limits of processes: `ulimit -u`, `pids.max`, `TasksMax`)"
    )]
    CannotStart {
        /// Name of the pool.
        pool: &'static str,
    },
}

impl From<BlockingError> for io::Error {
    fn from(error: BlockingError) -> Self {
        Self::other(error)
    }
}

/// Result of an operation in a [`BlockingPool`], in the future.
///
/// Dropping the task does not interrupt a running operation. If the operation has not started yet, it never starts.
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

impl<R> BlockingTask<R> {
    /// Blocks the current thread until the operation has returned, for `limit` at most. Returns `None` after that.
    /// An operation that has not started by then never starts.
    pub fn wait(self, limit: Duration) -> Option<Result<R, BlockingError>> {
        block_on_within(limit, self)
    }
}

/// Runs a future on the current thread, for `limit` at most. Returns `None` after that.
///
/// The future must not need an async runtime.
pub fn block_on_within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    // The budget of a tokio task would be used up: no other task runs on this thread meanwhile.
    let mut future = pin!(tokio::task::unconstrained(future));
    let start = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        thread::park_timeout(limit.checked_sub(start.elapsed())?);
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
            max_threads: MAX_THREADS,
            blocked_after: BLOCKED_AFTER,
            idle_timeout: IDLE_TIMEOUT,
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
            // The destructors of the operation and of a result without a receiver may panic, too.
            let _ = panics::catch(move || {
                if !sender.is_closed() {
                    let run = |()| panics::catch(operation).map_err(BlockingError::Panicked);
                    let _ = sender.send(admitted.and_then(run));
                }
            });
        });
        let mut state = self.state.lock();
        if self.find_thread(&mut state) {
            state.queue.push_back(job);
            // Unlocks the state first, because the woken thread needs the lock.
            drop(state);
            self.queued.notify_one();
        } else {
            let error = self.no_thread(&state);
            drop(state);
            job(Err(error));
        }
        BlockingTask(receiver)
    }

    /// Makes sure that a thread takes one more operation from the queue. Returns `false` if no thread ever will.
    fn find_thread(&'static self, state: &mut State) -> bool {
        if state.idle_threads > state.queue.len() || self.start_thread(state) {
            return true;
        }
        if self.active_threads(state) == 0 {
            return false;
        }
        // If the system cannot start the checker, an active thread takes the operation when it is free. If all active
        // threads get blocked first, the operation waits until one of them returns or a later call starts a thread.
        state.is_checking = state.is_checking || self.start(Self::check);
        true
    }

    /// Starts a thread for a queued operation. Returns `false` if there are enough threads, or if the system cannot
    /// start one.
    fn start_thread(&'static self, state: &mut State) -> bool {
        let is_started = self.active_threads(state) < self.active_threads
            && state.threads < self.max_threads
            && self.start(Self::run);
        state.threads += usize::from(is_started);
        state.idle_threads += usize::from(is_started);
        is_started
    }

    fn start(&'static self, run: fn(&'static Self)) -> bool {
        let thread = thread::Builder::new().name(self.name.into()).stack_size(self.stack_bytes);
        thread.spawn(move || run(self)).is_ok()
    }

    /// Starts a thread for each queued operation for which there is no idle thread, up to the maximum number of active
    /// threads.
    fn start_missing_threads(&'static self, state: &mut State) {
        while state.queue.len() > state.idle_threads && self.start_thread(state) {}
    }

    /// Returns the number of threads that are not blocked.
    fn active_threads(&self, state: &State) -> usize {
        let now = Instant::now();
        let is_blocked = |start: &&Instant| now.duration_since(**start) >= self.blocked_after;
        state.threads - state.running.values().take_while(is_blocked).count()
    }

    /// Runs queued operations until the thread has been idle for [`IDLE_TIMEOUT`] and the pool has another idle thread,
    /// or until the pool has more active threads than its maximum.
    fn run(&'static self) {
        let mut state = self.state.lock();
        state.idle_threads -= 1;
        while self.active_threads(&state) <= self.active_threads {
            if let Some(job) = state.queue.pop_front() {
                let number = state.start_operation();
                drop(state);
                job(Ok(()));
                state = self.state.lock();
                state.running.remove(&number);
                continue;
            }
            state.idle_threads += 1;
            state = self
                .queued
                .wait_timeout_while(state, self.idle_timeout, |state| state.queue.is_empty());
            state.idle_threads -= 1;
            // This thread ends only if the pool has another thread that is free. A thread that runs an operation may be
            // blocked forever, so the pool could not rely on it.
            if state.queue.is_empty() && state.threads - state.running.len() > 1 {
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
            self.start_missing_threads(&mut state);
            let rejected = if self.active_threads(&state) == 0 {
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
        if state.threads < self.max_threads {
            BlockingError::CannotStart { pool: self.name }
        } else {
            BlockingError::AllBlocked { pool: self.name, blocked: state.running.len() }
        }
    }
}

impl State {
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
    use tokio::time::timeout;

    /// Returns a pool with a maximum number of threads, in which no operation ever counts as blocked.
    fn bounded_pool(active_threads: usize, max_threads: usize) -> &'static BlockingPool {
        let pool = BlockingPool::new("test", active_threads);
        Box::leak(Box::new(BlockingPool { max_threads, blocked_after: Duration::MAX, ..pool }))
    }

    /// Returns the result of a task, which must be available soon.
    async fn result<R>(task: BlockingTask<R>) -> Result<R, BlockingError> {
        timeout(Duration::from_secs(30), task).await.expect("the task ends")
    }

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
        let pool = bounded_pool(2, MAX_THREADS);
        let blocked = [block(pool), block(pool)];
        let queued: Vec<_> = (0..20).map(|_| pool.spawn(|| ())).collect();
        assert_eq!(pool.state.lock().threads, 2);
        for (release, task) in blocked {
            drop(release);
            task.await.expect("the operation returns after its release");
        }
        for task in queued {
            task.await.expect("each operation runs");
        }
    }

    /// A new thread counts as idle until it takes an operation, so that no second thread is started for the same
    /// operation.
    #[test]
    fn queued_operation_starts_one_thread() {
        let pool = bounded_pool(8, MAX_THREADS);
        let mut state = pool.state.lock();
        state.queue.push_back(Box::new(|_| ()));
        pool.start_missing_threads(&mut state);
        pool.start_missing_threads(&mut state);
        assert_eq!(state.threads, 1);
    }

    /// An operation that no thread would ever take is not queued.
    #[tokio::test]
    async fn operation_is_rejected_if_no_thread_starts() {
        let pool = BlockingPool::new("test", 1).with_stack_bytes(1 << 60);
        let pool: &BlockingPool = Box::leak(Box::new(pool));
        let error = BlockingError::CannotStart { pool: "test" };
        assert_eq!(result(pool.spawn(|| ())).await, Err(error));
    }

    /// A system without free threads must not stop a pool that has a thread.
    #[tokio::test]
    async fn last_thread_stays_when_idle() {
        let idle_timeout = Duration::from_millis(1);
        let pool = BlockingPool { idle_timeout, ..BlockingPool::new("test", 4) };
        let pool: &BlockingPool = Box::leak(Box::new(pool));
        let (release, blocked) = block(pool);
        result(pool.spawn(|| ())).await.expect("the operation runs on a second thread");
        drop(release);
        result(blocked).await.expect("the operation returns after its release");
        timeout(Duration::from_secs(30), async {
            while pool.state.lock().idle_threads != 1 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("one thread stays");
        assert_eq!(pool.state.lock().threads, 1);
    }

    /// If the system cannot start further threads, an existing thread takes the queued operation.
    #[tokio::test]
    async fn operation_is_queued_if_no_further_thread_starts() {
        // The system cannot start threads with such a stack.
        let pool = BlockingPool::new("test", 4).with_stack_bytes(1 << 60);
        let pool: &BlockingPool = Box::leak(Box::new(pool));
        pool.state.lock().threads = 1;
        let queued = pool.spawn(|| 7);
        // Simulates one idle thread, which takes the queued operation.
        pool.state.lock().idle_threads = 1;
        thread::spawn(|| pool.run());
        assert_eq!(result(queued).await, Ok(7));
    }

    /// A task of tokio may make a limited number of steps before it returns to the runtime.
    #[tokio::test]
    async fn blocking_waits_in_a_task_are_not_limited() {
        static POOL: BlockingPool = BlockingPool::new("test", 1);
        for _ in 0..1_000 {
            assert_eq!(POOL.spawn(|| 7).wait(Duration::from_secs(30)), Some(Ok(7)));
        }
    }

    #[test]
    fn blocking_wait_ends_at_the_limit() {
        static POOL: BlockingPool = BlockingPool::new("test", 1);
        assert_eq!(POOL.spawn(|| 7).wait(Duration::from_secs(30)), Some(Ok(7)));
        let (release, blocked) = block(&POOL);
        assert_eq!(blocked.wait(Duration::from_millis(1)), None);
        drop(release);
    }

    #[tokio::test]
    async fn panicking_destructor_does_not_end_thread() {
        struct PanicsInDrop;
        impl Drop for PanicsInDrop {
            fn drop(&mut self) {
                panic!("in a destructor");
            }
        }
        let pool = bounded_pool(1, 1);
        let (start, started) = oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let abandoned = pool.spawn(move || {
            let _ = start.send(());
            let _ = released.recv();
            PanicsInDrop
        });
        started.await.expect("the operation starts");
        drop(abandoned);
        let next = pool.spawn(|| 7);
        drop(release);
        assert_eq!(result(next).await, Ok(7));
        assert_eq!(pool.state.lock().threads, 1);
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
        let pool = BlockingPool { max_threads: 3, ..BlockingPool::new("test", 3) };
        let pool: &BlockingPool = Box::leak(Box::new(pool));
        let blocked = [block(pool), block(pool), block(pool)];
        let error = loop {
            match pool.spawn(|| ()).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error, BlockingError::AllBlocked { pool: "test", blocked: 3 });
        drop(blocked);
    }
}

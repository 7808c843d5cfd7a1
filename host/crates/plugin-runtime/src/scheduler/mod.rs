//! Scheduler of guest calls: a multilevel feedback queue with three levels.
//!
//! | level | runs on | time slice | a call starts here if | a call leaves after |
//! |---|---|---|---|---|
//! | inline | the caller's thread | [`EPOCH`](epoch_interruption::EPOCH) | its source has completed 5 calls below 2 ms and is within its inline quota | 2 ms of CPU time, to the shared pool |
//! | shared pool | 1 thread of normal priority | [`EPOCH`](epoch_interruption::EPOCH) | its source is not heavy | 3 ms of CPU time, to the background pool |
//! | background pool | threads of low priority on half of the processors | [`EPOCH`](epoch_interruption::EPOCH); yields each [`BACKGROUND_EPOCH`] | its source is heavy | – |
//!
//! A source is heavy while it exceeds the heavy-use quota of its [`CpuQuota`]. A call starts at the first level that
//! admits it and moves down only. The next call of the same source starts at the level that the source's quotas admit
//! at that time; quotas recover with time.
//!
//! Inline execution has the lowest latency, because no thread is woken. The pools exist because a guest cannot
//! be interrupted everywhere: some of its instructions (filling its memory) and the host's work for it (copying
//! its data) run to their end, which would delay the other tasks of the caller's thread.

pub(crate) mod epoch_interruption;
mod oneshot_timer;
pub(crate) mod source_cpu_quota;

use crate::{
    cpu_timer::{Clock, CpuTimer},
    scheduler::{
        epoch_interruption::{BACKGROUND_EPOCH, EpochTicker},
        source_cpu_quota::{CpuQuota, INLINE_CALL_LIMIT, SHARED_CALL_LIMIT, SharedQuota},
    },
};
use reloader_util::thread_priority_pool::{ThreadPool, ThreadPriority};
use std::{
    cell::Cell,
    future::{Future, pending, poll_fn},
    num::NonZero,
    panic::resume_unwind,
    pin::Pin,
    sync::Arc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Returns the number of threads of the background pool: half of the processors, and at least one.
fn background_threads() -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).max(1)
}

/// Scheduler: decides whether a guest call runs inline, or in the shared or background pool. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Scheduler {
    ticker: EpochTicker,
    /// Pool for short computations, such as opening an instance.
    shared_pool: Arc<ThreadPool>,
    background_pool: Arc<ThreadPool>,
    shared_quota: Arc<SharedQuota>,
}

impl Scheduler {
    pub(crate) fn new(ticker: EpochTicker) -> Self {
        let shared = ThreadPool::new("reloader-guests", 1, ThreadPriority::Shared);
        let background =
            ThreadPool::new("reloader-slow", background_threads(), ThreadPriority::Background);
        Self {
            ticker,
            shared_pool: Arc::new(shared),
            background_pool: Arc::new(background),
            shared_quota: Arc::new(SharedQuota::new(Instant::now())),
        }
    }

    /// Runs a call, measures its CPU time and charges it to the quota. Dropping the returned future aborts the
    /// call.
    pub(crate) async fn run<F>(
        &self,
        cpu_timer: &CpuTimer,
        quota: &CpuQuota,
        mut call: Pin<Box<F>>,
    ) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let now = Instant::now();
        cpu_timer.reset(quota.clock(now));
        let _charge = ChargeOnDrop { quota, cpu_timer, shared_quota: &self.shared_quota };
        if quota.may_run_inline(now) {
            let inline =
                poll_fn(|context| match self.ticker.poll(cpu_timer, call.as_mut(), context) {
                    Poll::Ready(output) => Poll::Ready(Some(output)),
                    Poll::Pending if cpu_timer.used() > INLINE_CALL_LIMIT => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                });
            if let Some(output) = inline.await {
                return output;
            }
        }
        // Woken threads preempt the threads of the pools, so the wall-clock time of a call in a pool says nothing
        // about its CPU time. The thread's CPU clock is used instead.
        cpu_timer.use_thread_clock();
        if !quota.is_heavy(Instant::now()) {
            let limit = Some(SHARED_CALL_LIMIT);
            call = match self.run_in_pool(&self.shared_pool, cpu_timer, limit, call).await {
                Ok(output) => return output,
                Err(demoted) => demoted,
            };
        }
        cpu_timer.enter_background();
        loop {
            call = match self.run_in_pool(&self.background_pool, cpu_timer, None, call).await {
                Ok(output) => return output,
                Err(demoted) => demoted,
            };
        }
    }

    /// Drops a value with a slow destructor: on the shared pool, or on the current thread if the pool has no threads.
    pub(crate) fn drop_in_pool(&self, value: impl Send + 'static) {
        let _task = self.shared_pool.spawn(async move { drop(value) });
    }

    /// Continues a call in a pool. Returns the call itself if its CPU time exceeds `limit`.
    async fn run_in_pool<F>(
        &self,
        pool: &ThreadPool,
        cpu_timer: &CpuTimer,
        limit: Option<Duration>,
        call: Pin<Box<F>>,
    ) -> Result<F::Output, Pin<Box<F>>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (ticker, timer, shared_quota) =
            (self.ticker.clone(), cpu_timer.clone(), Arc::clone(&self.shared_quota));
        let mut call = Some(call);
        let run = poll_fn(move |context| {
            let Some(running) = &mut call else { return Poll::Pending };
            if limit.is_none() {
                yield_to_other_threads();
            }
            let before = timer.used();
            let polled = ticker.poll(&timer, running.as_mut(), context);
            if limit.is_some() {
                shared_quota.charge_pool(timer.used().saturating_sub(before), Instant::now());
            }
            match polled {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending if limit.is_some_and(|limit| timer.used() > limit) => {
                    call.take().map_or(Poll::Pending, |call| Poll::Ready(Err(call)))
                }
                Poll::Pending => Poll::Pending,
            }
        });
        let mut task = match pool.spawn(run) {
            Ok(task) => AbortOnDrop(task),
            Err(run) => return run.await,
        };
        match (&mut task.0).await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The pool has been shut down and has dropped the call, which has no output. The task of the caller
                // ends at the same time.
                Err(_) => pending().await,
            },
        }
    }
}

/// Yields the processor if the guests of this thread have computed for a [`BACKGROUND_EPOCH`] since the last
/// yield.
///
/// The nice value of the thread is not enough: the kernel credits a thread for the time in which it slept, so a
/// background thread that sleeps briefly between computations would take precedence over other threads.
pub(crate) fn yield_to_other_threads() {
    thread_local!(static LAST_YIELD: Cell<Duration> = const { Cell::new(Duration::ZERO) });
    let now = Clock::Thread.now();
    if now.saturating_sub(LAST_YIELD.get()) >= BACKGROUND_EPOCH {
        LAST_YIELD.set(now);
        thread::yield_now();
    }
}

/// Charges the CPU time of a call to its source, also when the call is aborted or panics.
struct ChargeOnDrop<'a> {
    quota: &'a CpuQuota,
    cpu_timer: &'a CpuTimer,
    shared_quota: &'a SharedQuota,
}

impl Drop for ChargeOnDrop<'_> {
    fn drop(&mut self) {
        self.quota.charge(self.cpu_timer.chargeable(), self.shared_quota, Instant::now);
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

//! Where guests run: at first on the thread of who calls them, which is quickest; and on threads of their
//! own, which give way to all others, once they compute for long.
//!
//! A guest is interrupted every millisecond, but some of its instructions (filling all of its memory) and
//! all of the host's work for it (copying what it hands over) are not. On the threads of a program
//! that would hold up whatever else runs there.

use super::{
    meter::{Clock, CpuMeter},
    ticker::Ticker,
};
use std::{
    future::{Future, pending, poll_fn},
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

/// Who computes for longer in one call goes on elsewhere.
const QUICK: Duration = Duration::from_millis(2);
/// So many of its next calls begin there.
const REMEMBERED: u32 = 64;
/// Threads for guests that compute.
const THREADS: usize = 2;

/// The two ways to run a call. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    ticker: Ticker,
    slow: Arc<SlowLane>,
}

/// How many more calls of a source begin in the slow lane.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU32);

/// Its threads are started when they are needed first.
#[derive(Debug, Default)]
struct SlowLane(OnceLock<Option<Runtime>>);

impl Lanes {
    pub(super) fn new(ticker: Ticker) -> Self {
        Self { ticker, slow: Arc::default() }
    }

    /// Runs a call, and measures the time that it is on a processor. It ends when this is dropped.
    pub(super) async fn run<F>(&self, meter: &CpuMeter, pace: &Pace, call: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        meter.reset();
        let mut call = Box::pin(call);
        if pace.is_quick() {
            let quick = poll_fn(|context| match self.ticker.poll(meter, call.as_mut(), context) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if meter.used() > QUICK => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            if let Some(output) = quick.await {
                pace.took(meter.used());
                return output;
            }
            pace.took(meter.used());
        }
        let output = self.go_on(meter, call).await;
        pace.took(meter.used());
        output
    }

    async fn go_on<F>(&self, meter: &CpuMeter, mut call: Pin<Box<F>>) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (ticker, measured) = (self.ticker.clone(), meter.clone());
        let rest = poll_fn(move |context| ticker.poll(&measured, call.as_mut(), context));
        let Some(threads) = self.slow.threads() else { return rest.await };
        // There, others come first: only its own time counts.
        meter.use_clock(Clock::Thread);
        let mut task = AbortOnDrop(threads.spawn(rest));
        match (&mut task.0).await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The lane is being closed, and with it whoever waits here.
                Err(_) => pending().await,
            },
        }
    }
}

impl Pace {
    fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn took(&self, time: Duration) {
        if time > QUICK {
            self.0.store(REMEMBERED, Ordering::Relaxed);
        } else {
            let less = |calls: u32| calls.checked_sub(1);
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

impl SlowLane {
    fn threads(&self) -> Option<&Runtime> {
        let threads = self.0.get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(THREADS)
                .thread_name("guests")
                .on_thread_start(give_way)
                .enable_all()
                .build()
                .ok()
        });
        threads.as_ref()
    }
}

/// Whoever else wants the processor gets it first.
fn give_way() {
    #[cfg(target_os = "linux")]
    // On Linux this is a thread's own.
    let _ = rustix::process::nice(10);
}

/// It may be dropped where nobody may wait for threads to end.
impl Drop for SlowLane {
    fn drop(&mut self) {
        if let Some(Some(threads)) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

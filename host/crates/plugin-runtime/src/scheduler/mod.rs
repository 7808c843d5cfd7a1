//! Where guests run: at first on the thread of who calls them, which is quickest; on a thread of their own
//! when they take a moment longer, or nobody knows them yet; and on threads that give way to all others
//! once they compute for long.
//!
//! A guest is interrupted every millisecond, but some of its instructions (filling all of its memory) and
//! all of the host's work for it (copying what it hands over) are not. On the threads of a program
//! that would hold up whatever else runs there.

pub(crate) mod cpu_quota;
pub(crate) mod epoch;

use crate::{
    meter::{Clock, CpuMeter},
    scheduler::{
        cpu_quota::{Crowd, LONG, Pace, QUICK},
        epoch::{MOMENT, Ticker},
    },
};
use reloader_util::thread_pool::{ThreadPool, ThreadPriority};
use std::{
    cell::Cell,
    future::{Future, pending, poll_fn},
    num::NonZero,
    panic::resume_unwind,
    pin::Pin,
    sync::Arc,
    task::Poll,
    thread,
    time::Duration,
};
use tokio::task::JoinHandle;

/// How many threads guests that compute have: half of the processors, where there is more than one, are left to
/// everybody else.
fn threads() -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).max(1)
}

/// The three places to run a call. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    ticker: Ticker,
    /// For those who take a moment: opening an instance, for example.
    brisk: Arc<ThreadPool>,
    slow: Arc<ThreadPool>,
    crowd: Arc<Crowd>,
}

impl Lanes {
    pub(crate) fn new(ticker: Ticker) -> Self {
        let brisk = ThreadPool::new("guests", 1, ThreadPriority::Shared);
        let slow = ThreadPool::new("slow guests", threads(), ThreadPriority::Background);
        Self { ticker, brisk: Arc::new(brisk), slow: Arc::new(slow), crowd: Arc::default() }
    }

    /// Runs a call, and measures the time that it is on a processor. It ends when this is dropped.
    pub(crate) async fn run<F>(&self, meter: &CpuMeter, pace: &Pace, call: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        meter.reset(pace.clock());
        let _account = Account { pace, meter, crowd: &self.crowd };
        let mut call = Box::pin(call);
        if pace.is_quick() {
            let quick = poll_fn(|context| match self.ticker.poll(meter, call.as_mut(), context) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if meter.used() > QUICK => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            if let Some(output) = quick.await {
                return output;
            }
        }
        // There, others come first.
        meter.look_closely();
        if !pace.is_hog() {
            call = match self.go_on(&self.brisk, meter, Some(LONG), call).await {
                Ok(output) => return output,
                Err(rest) => rest,
            };
        }
        meter.comes_last();
        loop {
            call = match self.go_on(&self.slow, meter, None, call).await {
                Ok(output) => return output,
                Err(rest) => rest,
            };
        }
    }

    /// Drops something that takes a moment, where such calls run.
    pub(crate) fn drop_there(&self, thing: impl Send + 'static) {
        // Where there are no threads it is dropped here.
        let _task = self.brisk.spawn(async move { drop(thing) });
    }

    /// Goes on with a call on these threads, until it ends or has computed for so long: then it is given
    /// back.
    async fn go_on<F>(
        &self,
        threads: &ThreadPool,
        meter: &CpuMeter,
        limit: Option<Duration>,
        call: Pin<Box<F>>,
    ) -> Result<F::Output, Pin<Box<F>>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (ticker, measured, crowd) =
            (self.ticker.clone(), meter.clone(), Arc::clone(&self.crowd));
        let mut call = Some(call);
        let rest = poll_fn(move |context| {
            let Some(running) = &mut call else { return Poll::Pending };
            if limit.is_none() {
                let_others_in();
            }
            let before = measured.used();
            let polled = ticker.poll(&measured, running.as_mut(), context);
            if limit.is_some() {
                crowd.took(measured.used().saturating_sub(before));
            }
            match polled {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending if limit.is_some_and(|limit| measured.used() > limit) => {
                    call.take().map_or(Poll::Pending, |call| Poll::Ready(Err(call)))
                }
                Poll::Pending => Poll::Pending,
            }
        });
        let mut task = match threads.spawn(rest) {
            Ok(task) => AbortOnDrop(task),
            Err(rest) => return rest.await,
        };
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

/// Others come first, if the guests of this thread have computed for a [`MOMENT`] since they did so last.
///
/// The system owes something to who has slept, and would not let others in before it is paid: whoever only ever
/// sleeps for a moment would be the one to go first.
pub(crate) fn let_others_in() {
    thread_local!(static LET_IN: Cell<Duration> = const { Cell::new(Duration::ZERO) });
    let now = Clock::Thread.now();
    if now.saturating_sub(LET_IN.get()) >= MOMENT {
        LET_IN.set(now);
        thread::yield_now();
    }
}

/// What a call has computed is on its source's account, however it ends.
struct Account<'a> {
    pace: &'a Pace,
    meter: &'a CpuMeter,
    crowd: &'a Crowd,
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.pace.took(self.meter.believed(), self.crowd);
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

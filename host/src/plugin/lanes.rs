//! Where guests run: at first on the thread of who calls them, which is quickest; on a thread of their own
//! when they take a moment longer, or nobody knows them yet; and on threads that give way to all others
//! once they compute for long.
//!
//! A guest is interrupted every millisecond, but some of its instructions (filling all of its memory) and
//! all of the host's work for it (copying what it hands over) are not. On the threads of a program
//! that would hold up whatever else runs there.

use super::{
    meter::{Clock, CpuMeter},
    ticker::Ticker,
};
use crate::threads::{Threads, give_way, have_patience};
use std::{
    future::{Future, pending, poll_fn},
    num::NonZero,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    thread,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Who computes for longer in one call goes on elsewhere.
const QUICK: Duration = Duration::from_millis(2);
/// So much of each call is no burden,
const NOTHING: Duration = Duration::from_micros(20);
/// and so much is none of a call now and then:
const LITTLE: Duration = Duration::from_micros(250);
/// as long as all that comes to no more than this part of the time.
const OF_LITTLE: u32 = 10;
/// What a source computes on others' threads is at most this part of the time, so that it is not among
/// the slowest hundredth of what they do,
const SHARE: u32 = 1_000;
/// and so long at a stretch.
const BURST: Duration = Duration::from_millis(5);
/// However much it has computed, it may come back after this.
const BANISHED: Duration = Duration::from_secs(600);
/// So many calls have to be quick before one begins on its caller's thread: opening, reading and arming,
/// and reading again.
const TRIALS: u32 = 5;
/// How many threads guests that compute have: half of the processors, where there is more than one, are left to
/// everybody else.
fn threads() -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).max(1)
}

/// Who computes for longer than this in one call shares its thread with others of that kind alone, …
const LONG: Duration = Duration::from_millis(3);
/// … and so do, from the beginning, its next calls, if such calls have computed so much more than a
/// [`SHARE`] of the time, …
const HOG: Duration = Duration::from_millis(50);
/// … or shorter ones, of which others notice less, more than this part of it.
const MOMENTS: u32 = 20;

/// The three places to run a call. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    ticker: Ticker,
    /// For those who take a moment: opening an instance, for example.
    brisk: Arc<Threads>,
    slow: Arc<Threads>,
}

/// How much a source computes.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Past>);

/// What is known of a source.
#[derive(Debug)]
struct Past {
    /// So many calls must still be quick.
    trials: u32,
    /// When what did not count was no more than its part.
    made_up_for: Option<Instant>,
    /// When all that it has computed was no more than its share.
    paid_off: Option<Instant>,
    /// The same of what others notice who take a moment.
    forgiven: Option<Instant>,
}

/// Nobody knows it yet.
impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(Past { trials: TRIALS, made_up_for: None, paid_off: None, forgiven: None }))
    }
}

impl Lanes {
    pub(super) fn new(ticker: Ticker) -> Self {
        let brisk = Threads::new("guests", 1).on_start(have_patience);
        let slow = Threads::new("slow guests", threads()).on_start(give_way);
        Self { ticker, brisk: Arc::new(brisk), slow: Arc::new(slow) }
    }

    /// Runs a call, and measures the time that it is on a processor. It ends when this is dropped.
    pub(super) async fn run<F>(&self, meter: &CpuMeter, pace: &Pace, call: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        meter.reset(pace.clock());
        let _account = Account { pace, meter };
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
        meter.lets_others_in();
        loop {
            call = match self.go_on(&self.slow, meter, None, call).await {
                Ok(output) => return output,
                Err(rest) => rest,
            };
        }
    }

    /// Drops something that takes a moment, where such calls run.
    pub(super) fn drop_there(&self, thing: impl Send + 'static) {
        // Where there are no threads it is dropped here.
        let _task = self.brisk.spawn(async move { drop(thing) });
    }

    /// Goes on with a call on these threads, until it ends or has computed for so long: then it is given
    /// back.
    async fn go_on<F>(
        &self,
        threads: &Threads,
        meter: &CpuMeter,
        limit: Option<Duration>,
        call: Pin<Box<F>>,
    ) -> Result<F::Output, Pin<Box<F>>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (ticker, measured) = (self.ticker.clone(), meter.clone());
        let mut call = Some(call);
        let rest = poll_fn(move |context| {
            let Some(running) = &mut call else { return Poll::Pending };
            if measured.is_others_turn() {
                // The system owes something to who has slept, and would not let others in before it is
                // paid: whoever only ever sleeps for a moment would be the one to go first.
                thread::yield_now();
            }
            match ticker.poll(&measured, running.as_mut(), context) {
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

impl Pace {
    /// Whether its next call may begin on its caller's thread.
    fn is_quick(&self) -> bool {
        let past = self.lock();
        past.trials == 0 && until(past.paid_off) < BURST * SHARE
    }

    /// What its next call is timed by: whoever owes something is looked at closely.
    fn clock(&self) -> Clock {
        if until(self.lock().paid_off).is_zero() { Clock::Wall } else { Clock::Thread }
    }

    /// Whether it has computed so much that its calls are not to begin beside those who take a moment.
    fn is_hog(&self) -> bool {
        until(self.lock().forgiven) > HOG * SHARE
    }

    /// A call has taken so long. It is paid off when it was only a share of the time.
    fn took(&self, time: Duration) {
        let mut past = self.lock();
        if time < QUICK {
            past.trials = past.trials.saturating_sub(1);
        }
        let mut burden = time.saturating_sub(NOTHING);
        let left = BURST.saturating_sub(until(past.made_up_for) / OF_LITTLE);
        let little = burden.min(LITTLE).min(left);
        past.made_up_for = Some(later(past.made_up_for, little * OF_LITTLE));
        burden -= little;
        if burden.is_zero() {
            return;
        }
        past.paid_off = Some(later(past.paid_off, burden.saturating_mul(SHARE)));
        let noticed = if time > LONG { SHARE } else { MOMENTS };
        past.forgiven = Some(later(past.forgiven, burden.saturating_mul(noticed)));
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn until(at: Option<Instant>) -> Duration {
    at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
}

fn later(at: Option<Instant>, time: Duration) -> Instant {
    let now = Instant::now();
    (at.map_or(now, |at| at.max(now)) + time).min(now + BANISHED)
}

/// What a call has computed is on its source's account, however it ends.
struct Account<'a> {
    pace: &'a Pace,
    meter: &'a CpuMeter,
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.pace.took(self.meter.believed());
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_begins_on_others_threads_who_has_not_been_seen_to_be_quick() {
        let pace = Pace::default();
        for _ in 0..TRIALS {
            assert!(!pace.is_quick());
            pace.took(NOTHING / 2);
        }
        assert!(pace.is_quick());
    }

    #[test]
    fn who_owes_something_is_looked_at_closely() {
        let pace = Pace::default();
        pace.took(LITTLE / 2);
        assert_eq!(pace.clock(), Clock::Wall, "which is quicker");
        pace.took(LITTLE * 2);
        assert_eq!(pace.clock(), Clock::Thread);
    }

    #[test]
    fn who_computes_for_long_or_often_goes_elsewhere_and_who_does_little_does_not() {
        let pace = Pace::default();
        for _ in 0..1_000_000 {
            pace.took(NOTHING / 2);
        }
        assert!(pace.is_quick(), "next to nothing, however often");
        for _ in 0..20 {
            pace.took(LITTLE);
        }
        assert!(pace.is_quick(), "a little, now and then");
        assert_eq!(pace.clock(), Clock::Wall);
        for _ in 0..4 {
            pace.took(Duration::from_millis(1));
        }
        assert!(pace.is_quick(), "a burst");
        pace.took(Duration::from_millis(10));
        assert!(!pace.is_quick());
        assert!(!pace.is_hog(), "it has opened an instance, perhaps");
        pace.took(Duration::from_millis(100));
        assert!(pace.is_hog());
        pace.took(Duration::from_secs(3600));
        assert!(until(pace.lock().forgiven) <= BANISHED, "not for ever");
        assert!(until(pace.lock().paid_off) <= BANISHED, "not for ever");
    }

    #[test]
    fn a_little_all_the_time_is_much() {
        let pace = Pace::default();
        for _ in 0..100 {
            pace.took(LITTLE);
        }
        assert!(!pace.is_quick());
        assert!(!pace.is_hog());
    }

    #[test]
    fn many_short_calls_are_forgiven_sooner_than_few_long_ones() {
        let pace = Pace::default();
        for _ in 0..1_000 {
            pace.took(Duration::from_millis(1));
        }
        assert!(!pace.is_quick());
        assert!(!pace.is_hog(), "a second of short calls");
        for _ in 0..5_000 {
            pace.took(Duration::from_millis(2));
        }
        assert!(pace.is_hog(), "and nothing else than short calls");
    }
}

//! CPU timer: measures the CPU time of a guest call across threads and suspensions.

use reloader_util::sync::Mutex;
use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

/// CPU time of one guest call. Time in which the call is suspended does not count. Cheap to clone; clones share
/// their state.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuTimer(Arc<Mutex<State>>);

/// Maximum time measured by the wall clock that is charged to a call. The remainder may be time in which the
/// thread was preempted.
const MAX_WALL_CLOCK_CHARGE: Duration = Duration::from_millis(1);

/// Clock with which a [`CpuTimer`] measures the time of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Clock {
    /// Monotonic wall clock. Reading it takes nanoseconds. It includes the time in which the thread is preempted.
    #[default]
    Wall,
    /// CPU time of the current thread. Reading it takes a microsecond.
    Thread,
}

impl Clock {
    /// Returns the time since a fixed, unspecified start.
    pub(crate) fn now(self) -> Duration {
        #[cfg(target_os = "linux")]
        if self == Self::Thread {
            use rustix::time::{ClockId, clock_gettime};
            let time = clock_gettime(ClockId::ThreadCPUTime);
            let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
            return Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
        }
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Time of all completed polls of the call.
    used: Duration,
    clock: Clock,
    /// Start of the current poll, if the call is being polled.
    since: Option<Duration>,
    /// True if the last suspension was a preemption by the host, not a wait of the guest.
    preempted: bool,
    in_background: bool,
}

impl State {
    /// Returns the CPU time of the current `Future::poll` so far. Valid only on the thread that polls.
    fn slice(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| self.clock.now().saturating_sub(since))
    }

    /// Returns the time to charge to the call.
    fn chargeable(&self) -> Duration {
        match self.clock {
            Clock::Wall => self.used.min(MAX_WALL_CLOCK_CHARGE),
            Clock::Thread => self.used,
        }
    }
}

impl CpuTimer {
    /// Starts to measure a new call with this clock.
    pub(crate) fn reset(&self, clock: Clock) {
        self.with(|state| {
            (state.used, state.clock, state.in_background) = (Duration::ZERO, clock, false);
        });
    }

    /// Switches to the thread clock for the remaining time of the call. Until the call is resumed, it counts as
    /// preempted, because it waits for a thread of a pool and not for the guest.
    pub(crate) fn use_thread_clock(&self) {
        self.with(|state| {
            (state.used, state.clock) = (state.chargeable(), Clock::Thread);
            state.preempted = true;
        });
    }

    /// Marks the call as running in the background pool.
    pub(crate) fn enter_background(&self) {
        self.with(|state| state.in_background = true);
    }

    /// Returns whether the call runs in the background pool.
    pub(crate) fn is_in_background(&self) -> bool {
        self.with(|state| state.in_background)
    }

    /// Returns the time of all completed polls that is to be charged to the call. It is less than
    /// [`used`](Self::used) if the wall clock may have included preemption.
    pub(crate) fn chargeable(&self) -> Duration {
        self.with(|state| state.chargeable())
    }

    /// Starts the measurement, at the start of a `Future::poll` of the call.
    pub(crate) fn resume(&self) {
        self.with(|state| {
            state.since = Some(state.clock.now());
            state.preempted = false;
        });
    }

    /// Records that the host interrupts the call, at the end of its time slice.
    pub(crate) fn preempt(&self) {
        self.with(|state| state.preempted = true);
    }

    /// Returns whether the call is suspended because the guest waits, not because the host preempted the call.
    pub(crate) fn is_waiting(&self) -> bool {
        self.with(|state| state.since.is_none() && !state.preempted)
    }

    /// Ends the measurement, at the end of a `Future::poll` of the call.
    pub(crate) fn pause(&self) {
        self.with(|state| {
            state.used += state.slice();
            state.since = None;
        });
    }

    /// Returns the CPU time of the call in all completed `Future::poll`s.
    pub(crate) fn used(&self) -> Duration {
        self.with(|state| state.used)
    }

    /// Returns the CPU time of the current `Future::poll` so far. Valid only on the thread that polls.
    pub(crate) fn slice(&self) -> Duration {
        self.with(|state| state.slice())
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspended_time_does_not_count() {
        let timer = CpuTimer::default();
        assert_eq!(timer.used(), Duration::ZERO);
        timer.resume();
        timer.pause();
        let used = timer.used();
        assert_eq!(timer.used(), used, "suspended");
        timer.reset(Clock::Wall);
        assert_eq!(timer.used(), Duration::ZERO);
    }

    /// While one thread polls a call, other threads read the time of the completed polls.
    #[test]
    fn used_time_is_thread_independent() {
        let timer = CpuTimer::default();
        timer.reset(Clock::Thread);
        timer.resume();
        timer.pause();
        timer.resume();
        let (here, other) = (timer.used(), timer.clone());
        let there = std::thread::spawn(move || (other.used(), other.chargeable()));
        assert_eq!(there.join().unwrap(), (here, here), "during a poll on this thread");
    }

    #[test]
    fn preempted_call_is_not_waiting() {
        let timer = CpuTimer::default();
        timer.resume();
        timer.preempt();
        timer.pause();
        assert!(!timer.is_waiting());
        timer.resume();
        assert!(!timer.is_waiting(), "being polled");
        timer.pause();
        assert!(timer.is_waiting());
        timer.use_thread_clock();
        assert!(!timer.is_waiting(), "on its way to a pool");
    }

    #[test]
    fn wall_clock_charge_is_capped() {
        let timer = CpuTimer::default();
        timer.with(|state| state.used = Duration::from_millis(30));
        assert_eq!(timer.chargeable(), MAX_WALL_CLOCK_CHARGE, "may include preemption");
        assert_eq!(timer.used(), Duration::from_millis(30));
        timer.use_thread_clock();
        timer.with(|state| state.used += Duration::from_millis(30));
        assert_eq!(timer.chargeable(), MAX_WALL_CLOCK_CHARGE + Duration::from_millis(30));
    }
}

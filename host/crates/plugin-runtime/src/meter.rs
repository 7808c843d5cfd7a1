//! How much of a processor and of the memory an instance has used.

use crate::Limits;
use std::{
    mem,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use wasmtime::ResourceLimiter;

/// The time that a call has been on a processor. Waiting does not count, however it is cut up.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuMeter(Arc<Mutex<Cpu>>);

/// So much is believed of what only the time of day says.
const BELIEVED: Duration = Duration::from_millis(1);

/// What the time is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Clock {
    /// The time of day. It is told in nanoseconds, and right as long as nobody takes the processor away.
    #[default]
    Wall,
    /// What the thread has had of a processor. To ask takes a microsecond.
    Thread,
}

impl Clock {
    /// The time since some moment.
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
struct Cpu {
    /// Until it came to a processor last.
    used: Duration,
    clock: Clock,
    since: Option<Duration>,
    gave_way: bool,
    is_last: bool,
}

impl Cpu {
    /// How long it has been on a processor since it came there. Only the thread on which it is can tell.
    fn slice(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| self.clock.now().saturating_sub(since))
    }

    /// What it has used, less what others may have: they kept it waiting for a processor, perhaps.
    fn believed(&self) -> Duration {
        if self.clock == Clock::Wall { self.used.min(BELIEVED) } else { self.used }
    }
}

impl CpuMeter {
    /// A new call begins, and is timed by this.
    pub(crate) fn reset(&self, clock: Clock) {
        self.with(|cpu| (cpu.used, cpu.clock, cpu.is_last) = (Duration::ZERO, clock, false));
    }

    /// From here on only the thread's own time counts. The call goes on as soon as it has a turn.
    pub(crate) fn look_closely(&self) {
        self.with(|cpu| {
            (cpu.used, cpu.clock) = (cpu.believed(), Clock::Thread);
            cpu.gave_way = true;
        });
    }

    /// From here on the call is where others come first.
    pub(crate) fn comes_last(&self) {
        self.with(|cpu| cpu.is_last = true);
    }

    /// Whether others come first where the call is.
    pub(crate) fn is_last(&self) -> bool {
        self.with(|cpu| cpu.is_last)
    }

    /// What the call has used, as far as it is to be held against it, until it waited or gave way last.
    pub(crate) fn believed(&self) -> Duration {
        self.with(|cpu| cpu.believed())
    }

    /// The call is on a processor from here on.
    pub(crate) fn resume(&self) {
        self.with(|cpu| {
            cpu.since = Some(cpu.clock.now());
            cpu.gave_way = false;
        });
    }

    /// The call has been interrupted so that others have a turn.
    pub(crate) fn gives_way(&self) {
        self.with(|cpu| cpu.gave_way = true);
    }

    /// Whether the call waits for something else than its turn.
    pub(crate) fn waits(&self) -> bool {
        self.with(|cpu| cpu.since.is_none() && !cpu.gave_way)
    }

    /// The call waits from here on, or has ended.
    pub(crate) fn pause(&self) {
        self.with(|cpu| {
            cpu.used += cpu.slice();
            cpu.since = None;
        });
    }

    /// What the call has used until it waited, or gave way to others, last.
    pub(crate) fn used(&self) -> Duration {
        self.with(|cpu| cpu.used)
    }

    /// How long the call has been on a processor since then: for the thread on which it is.
    pub(crate) fn slice(&self) -> Duration {
        self.with(|cpu| cpu.slice())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Cpu) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The memory that a source's instances may still take, all together, in bytes.
#[derive(Debug, Clone)]
pub(crate) struct MemoryLeft(Arc<AtomicUsize>);

impl MemoryLeft {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// So much is left.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes so much of it, if there is so much.
    fn take(&self, bytes: usize) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }
}

/// Limits the memory of an instance, and what it is made of. What it has taken it gives back when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    left: MemoryLeft,
    taken: usize,
    granted_last: usize,
    table_elements: usize,
    instances: usize,
    /// The name of the limit that was reached last.
    reached: Option<&'static str>,
}

impl MemoryMeter {
    pub(crate) fn new(left: MemoryLeft, limits: &Limits) -> Self {
        Self {
            left,
            taken: 0,
            granted_last: 0,
            table_elements: limits.table_elements.get(),
            instances: limits.instances.get(),
            reached: None,
        }
    }

    /// What a call was refused and did without has nothing to do with the next one.
    pub(crate) fn forget(&mut self) {
        self.reached = None;
    }

    /// The name of the limit that was reached, if one was.
    pub(crate) fn reached(&self) -> Option<&'static str> {
        self.reached
    }

    /// Who comes next may have all that was taken, so many bytes: this one is of no more use.
    pub(crate) fn give_back(&mut self) -> usize {
        let taken = mem::take(&mut self.taken);
        self.left.0.fetch_add(taken, Ordering::Relaxed);
        taken
    }
}

impl Drop for MemoryMeter {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let fits = self.left.take(more);
        if fits {
            self.taken += more;
            self.granted_last = more;
        } else {
            self.reached = Some("memory");
        }
        Ok(fits)
    }

    /// It was granted, but could not be had.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let granted = mem::take(&mut self.granted_last).min(self.taken);
        self.taken -= granted;
        self.left.0.fetch_add(granted, Ordering::Relaxed);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let fits = more <= self.table_elements;
        if fits {
            self.table_elements -= more;
        } else {
            self.reached = Some("table-elements");
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_of_a_source_share_one_limit_and_an_instance_gives_back_what_it_took() {
        let mut limits = Limits::default();
        limits.set("table-elements", "10").unwrap();
        let left = MemoryLeft::new(100);
        let mut one = MemoryMeter::new(left.clone(), &limits);
        assert!(one.memory_growing(0, 60, None).unwrap());
        assert!(!one.memory_growing(0, 60, None).unwrap());
        assert_eq!(one.reached(), Some("memory"));
        let mut other = MemoryMeter::new(left, &limits);
        assert!(other.memory_growing(0, 40, None).unwrap());
        assert!(!other.memory_growing(0, 1, None).unwrap());
        drop(one);
        assert!(other.memory_growing(40, 100, None).unwrap());
        assert!(other.table_growing(0, 10, None).unwrap());
        assert!(!other.table_growing(10, 11, None).unwrap());
        assert_eq!(other.reached(), Some("table-elements"));
    }

    #[test]
    fn only_the_time_on_a_processor_counts() {
        let meter = CpuMeter::default();
        assert_eq!(meter.used(), Duration::ZERO);
        meter.resume();
        meter.pause();
        let used = meter.used();
        assert_eq!(meter.used(), used, "it waits");
        meter.reset(Clock::Wall);
        assert_eq!(meter.used(), Duration::ZERO);
    }

    #[test]
    fn what_a_call_has_used_is_the_same_for_every_thread() {
        let meter = CpuMeter::default();
        meter.reset(Clock::Thread);
        meter.resume();
        meter.pause();
        meter.resume();
        let (here, other) = (meter.used(), meter.clone());
        let there = std::thread::spawn(move || (other.used(), other.believed()));
        assert_eq!(there.join().unwrap(), (here, here), "while it is on a processor here");
    }

    #[test]
    fn who_was_interrupted_waits_for_nothing_but_its_turn() {
        let meter = CpuMeter::default();
        meter.resume();
        meter.gives_way();
        meter.pause();
        assert!(!meter.waits());
        meter.resume();
        assert!(!meter.waits(), "it has its turn");
        meter.pause();
        assert!(meter.waits());
        meter.look_closely();
        assert!(!meter.waits(), "it goes on elsewhere");
    }

    #[test]
    fn whoever_was_kept_waiting_by_others_is_not_blamed_for_it() {
        let meter = CpuMeter::default();
        meter.with(|cpu| cpu.used = Duration::from_millis(30));
        assert_eq!(meter.believed(), BELIEVED, "the time of day is all that is known");
        assert_eq!(meter.used(), Duration::from_millis(30));
        meter.look_closely();
        meter.with(|cpu| cpu.used += Duration::from_millis(30));
        assert_eq!(meter.believed(), BELIEVED + Duration::from_millis(30));
    }
}

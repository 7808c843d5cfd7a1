//! CPU quotas for guest calls: token buckets for each source, and two that all sources share.
//!
//! A call is charged with the CPU time that it used. The scheduler asks the quota where the next call of the
//! source starts (inline, or in one of the pools) and how precisely it is timed.

use crate::cpu_timer::Clock;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// CPU time after which a call leaves the caller's thread.
pub(crate) const INLINE_CALL_LIMIT: Duration = Duration::from_millis(2);
/// CPU time after which a call leaves the shared pool for the background pool.
pub(crate) const SHARED_CALL_LIMIT: Duration = Duration::from_millis(3);

/// Number of calls of a new source that must stay below [`INLINE_CALL_LIMIT`] before one starts inline. The
/// first calls of a source are two to open and read, two to open and arm, and another read.
const PROBATION_CALLS: u32 = 5;
/// CPU time of each call that is not charged.
const FREE_PER_CALL: Duration = Duration::from_micros(20);
/// Time after which any charge is forgotten.
const MAX_RECOVERY: Duration = Duration::from_secs(600);

/// Maximum charge of one call that the allowance can cover.
const ALLOWANCE_PER_CALL: Duration = Duration::from_micros(250);
/// Refill rate of a source's allowance: one part in this many of the time.
const SOURCE_ALLOWANCE_DIVISOR: u32 = 10;
/// Refill rate of the allowance of all sources: one part in this many of the time.
const SHARED_ALLOWANCE_DIVISOR: u32 = 5;

/// Refill rate of a source's inline quota: one part in this many of the time. At this rate, inline calls are
/// not among the slowest 1 % of the program's own tasks.
const INLINE_DIVISOR: u32 = 1_000;
/// Burst of the inline quota and of a source's allowance, in CPU time.
const INLINE_BURST: Duration = Duration::from_millis(5);

/// Burst of the heavy-use quota, in CPU time: a source that exceeds it is heavy.
const HEAVY_BURST: Duration = Duration::from_millis(50);
/// Refill rate of the heavy-use quota for calls shorter than [`SHARED_CALL_LIMIT`], unless the shared pool is
/// saturated: one part in this many of the time. For other calls, the rate is that of [`INLINE_DIVISOR`].
const SHORT_CALL_DIVISOR: u32 = 20;

/// Refill rate of the shared pool's quota: one part in this many of the time.
const SHARED_POOL_DIVISOR: u32 = 4;
/// Burst of the shared pool's quota and of the allowance of all sources, in CPU time.
const SHARED_BURST: Duration = Duration::from_millis(50);

/// Token bucket (GCRA): stores the theoretical arrival time, at which the bucket is full again.
///
/// A charge is given as the time that refilling it takes: CPU time × divisor of the refill rate.
#[derive(Debug, Default)]
struct TokenBucket(Option<Instant>);

impl TokenBucket {
    /// Returns the time until the bucket is full again.
    fn time_to_full(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Takes tokens. The time until the bucket is full again is capped at `max`.
    fn charge(&mut self, refill_time: Duration, max: Duration) {
        let now = Instant::now();
        self.0 = Some((self.0.map_or(now, |at| at.max(now)) + refill_time).min(now + max));
    }
}

/// CPU quota of one source.
#[derive(Debug)]
pub(crate) struct CpuQuota(Mutex<SourceBuckets>);

/// State of a [`CpuQuota`].
#[derive(Debug, Default)]
struct SourceBuckets {
    /// Number of further short calls until a call may start inline.
    probation_calls: u32,
    /// Allowance: CPU time of short calls that is not charged to the other buckets.
    allowance: TokenBucket,
    /// Inline quota.
    inline: TokenBucket,
    /// Heavy-use quota.
    heavy: TokenBucket,
}

/// A new source is on probation.
impl Default for CpuQuota {
    fn default() -> Self {
        let buckets = SourceBuckets { probation_calls: PROBATION_CALLS, ..Default::default() };
        Self(Mutex::new(buckets))
    }
}

impl CpuQuota {
    /// Returns whether the source's next call may start on the caller's thread.
    pub(crate) fn may_run_inline(&self) -> bool {
        let buckets = self.lock();
        buckets.probation_calls == 0
            && buckets.inline.time_to_full() < INLINE_BURST * INLINE_DIVISOR
    }

    /// Returns the clock for the source's next call: the precise one unless its inline quota is full.
    pub(crate) fn clock(&self) -> Clock {
        if self.lock().inline.time_to_full().is_zero() { Clock::Wall } else { Clock::Thread }
    }

    /// Returns whether the source's next call starts in the background pool.
    pub(crate) fn is_heavy(&self) -> bool {
        self.lock().is_heavy()
    }

    /// Charges the CPU time of a call.
    pub(crate) fn charge(&self, time: Duration, shared: &SharedQuota) {
        let mut buckets = self.lock();
        if time < INLINE_CALL_LIMIT {
            buckets.probation_calls = buckets.probation_calls.saturating_sub(1);
        }
        let mut charge = time.saturating_sub(FREE_PER_CALL);
        if charge.is_zero() {
            return;
        }
        if !buckets.is_heavy() {
            let used = buckets.allowance.time_to_full() / SOURCE_ALLOWANCE_DIVISOR;
            let left = INLINE_BURST.saturating_sub(used);
            let covered = shared.take_allowance(charge.min(ALLOWANCE_PER_CALL).min(left));
            buckets.allowance.charge(covered * SOURCE_ALLOWANCE_DIVISOR, MAX_RECOVERY);
            charge -= covered;
        }
        if charge.is_zero() {
            return;
        }
        buckets.inline.charge(charge.saturating_mul(INLINE_DIVISOR), MAX_RECOVERY);
        let divisor = if time > SHARED_CALL_LIMIT || shared.is_pool_saturated() {
            INLINE_DIVISOR
        } else {
            SHORT_CALL_DIVISOR
        };
        buckets.heavy.charge(charge.saturating_mul(divisor), MAX_RECOVERY);
    }

    fn lock(&self) -> MutexGuard<'_, SourceBuckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceBuckets {
    fn is_heavy(&self) -> bool {
        self.heavy.time_to_full() > HEAVY_BURST * INLINE_DIVISOR
    }
}

/// CPU quota of all sources together. It bounds the sum of many small uses.
#[derive(Debug, Default)]
pub(crate) struct SharedQuota(Mutex<SharedBuckets>);

/// State of a [`SharedQuota`].
#[derive(Debug, Default)]
struct SharedBuckets {
    /// Allowance: CPU time of short calls that is not charged to their sources.
    allowance: TokenBucket,
    /// CPU time of the shared pool.
    shared_pool: TokenBucket,
}

impl SharedQuota {
    /// Charges CPU time that a call used in the shared pool.
    pub(crate) fn charge_pool(&self, time: Duration) {
        let max = SHARED_BURST * SHARED_POOL_DIVISOR * 2;
        self.lock().shared_pool.charge(time * SHARED_POOL_DIVISOR, max);
    }

    /// Returns whether the shared pool has exceeded its quota.
    fn is_pool_saturated(&self) -> bool {
        self.lock().shared_pool.time_to_full() > SHARED_BURST * SHARED_POOL_DIVISOR
    }

    /// Takes up to `wanted` from the allowance, and returns how much it took.
    fn take_allowance(&self, wanted: Duration) -> Duration {
        let mut buckets = self.lock();
        let used = buckets.allowance.time_to_full() / SHARED_ALLOWANCE_DIVISOR;
        let granted = wanted.min(SHARED_BURST.saturating_sub(used));
        buckets.allowance.charge(granted * SHARED_ALLOWANCE_DIVISOR, MAX_RECOVERY);
        granted
    }

    fn lock(&self) -> MutexGuard<'_, SharedBuckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_source_runs_inline_after_probation() {
        let (quota, shared) = (CpuQuota::default(), SharedQuota::default());
        for _ in 0..PROBATION_CALLS {
            assert!(!quota.may_run_inline());
            quota.charge(FREE_PER_CALL / 2, &shared);
        }
        assert!(quota.may_run_inline());
    }

    #[test]
    fn charged_source_uses_thread_clock() {
        let (quota, shared) = (CpuQuota::default(), SharedQuota::default());
        quota.charge(ALLOWANCE_PER_CALL / 2, &shared);
        assert_eq!(quota.clock(), Clock::Wall, "covered by the allowance");
        quota.charge(ALLOWANCE_PER_CALL * 2, &shared);
        assert_eq!(quota.clock(), Clock::Thread);
    }

    /// A source loses inline execution first and the shared pool later. Calls below the allowance cost it
    /// neither.
    #[test]
    fn source_is_demoted_by_cpu_use() {
        let (quota, shared) = (CpuQuota::default(), SharedQuota::default());
        for _ in 0..1_000_000 {
            quota.charge(FREE_PER_CALL / 2, &shared);
        }
        assert!(quota.may_run_inline(), "free calls, however many");
        for _ in 0..20 {
            quota.charge(ALLOWANCE_PER_CALL, &shared);
        }
        assert!(quota.may_run_inline(), "covered by the allowance");
        assert_eq!(quota.clock(), Clock::Wall);
        for _ in 0..4 {
            quota.charge(Duration::from_millis(1), &shared);
        }
        assert!(quota.may_run_inline(), "within the burst");
        quota.charge(Duration::from_millis(10), &shared);
        assert!(!quota.may_run_inline());
        assert!(!quota.is_heavy(), "as much as opening an instance");
        quota.charge(Duration::from_millis(100), &shared);
        assert!(quota.is_heavy());
        quota.charge(Duration::from_secs(3600), &shared);
        assert!(quota.lock().heavy.time_to_full() <= MAX_RECOVERY, "bounded");
        assert!(quota.lock().inline.time_to_full() <= MAX_RECOVERY, "bounded");
    }

    #[test]
    fn allowance_is_exhausted_by_many_short_calls() {
        let (quota, shared) = (CpuQuota::default(), SharedQuota::default());
        for _ in 0..100 {
            quota.charge(ALLOWANCE_PER_CALL, &shared);
        }
        assert!(!quota.may_run_inline());
        assert!(!quota.is_heavy());
    }

    #[test]
    fn short_calls_recover_sooner_than_long_ones() {
        let (quota, shared) = (CpuQuota::default(), SharedQuota::default());
        for _ in 0..1_000 {
            quota.charge(Duration::from_millis(1), &shared);
        }
        assert!(!quota.may_run_inline());
        assert!(!quota.is_heavy(), "one second of short calls");
        for _ in 0..5_000 {
            quota.charge(Duration::from_millis(2), &shared);
        }
        assert!(quota.is_heavy(), "ten more seconds of short calls");
    }

    #[test]
    fn allowance_is_shared_by_all_sources() {
        let quotas: Vec<_> = (0..100).map(|_| CpuQuota::default()).collect();
        let shared = SharedQuota::default();
        for _ in 0..20 {
            quotas.iter().for_each(|quota| quota.charge(ALLOWANCE_PER_CALL, &shared));
        }
        let is_charged = |quota: &CpuQuota| quota.clock() == Clock::Thread;
        assert!(quotas.iter().any(is_charged), "half a second of CPU time in total");
        let alone = CpuQuota::default();
        (0..20).for_each(|_| alone.charge(ALLOWANCE_PER_CALL, &SharedQuota::default()));
        assert_eq!(alone.clock(), Clock::Wall);
    }

    #[test]
    fn saturated_pool_makes_source_heavy_sooner() {
        let (quota, shared) = (CpuQuota::default(), SharedQuota::default());
        let short_call = Duration::from_millis(1);
        shared.charge_pool(SHARED_BURST / 2);
        (0..100).for_each(|_| quota.charge(short_call, &shared));
        assert!(!quota.is_heavy(), "the pool is within its quota");
        shared.charge_pool(SHARED_BURST);
        (0..100).for_each(|_| quota.charge(short_call, &shared));
        assert!(quota.is_heavy());
        let other = CpuQuota::default();
        other.charge(short_call, &shared);
        assert!(!other.is_heavy(), "one short call");
    }
}

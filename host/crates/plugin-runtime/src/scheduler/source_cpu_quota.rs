//! CPU quotas for guest calls: three token buckets for each source, and two that all sources share.
//!
//! A call is charged with the CPU time that it used. The scheduler asks the quota where the next call of the
//! source starts (inline, or in one of the pools) and which clock measures its CPU time.

use crate::cpu_timer::Clock;
use reloader_util::{sync::Mutex, token_bucket::TokenBucket};
use std::time::{Duration, Instant};

/// CPU time after which a call leaves the caller's thread.
pub(crate) const INLINE_CALL_LIMIT: Duration = Duration::from_millis(2);
/// CPU time after which a call leaves the shared pool for the background pool.
pub(crate) const SHARED_CALL_LIMIT: Duration = Duration::from_millis(3);

/// Number of calls of a new source that must stay below [`INLINE_CALL_LIMIT`] before its next call may start inline.
/// The first five calls of a source are `open` and `reload`, `open` and `arm`, and a second `reload`.
const PROBATION_CALLS: u32 = 5;
/// CPU time of each call that is not charged.
const FREE_PER_CALL: Duration = Duration::from_micros(20);
/// Maximum time until a bucket is full again, however large the charges were.
const MAX_RECOVERY: Duration = Duration::from_secs(600);

/// Maximum CPU time of one call that the allowances cover; see `SourceBuckets::allowance`.
const ALLOWANCE_PER_CALL: Duration = Duration::from_micros(250);
/// Divisor of the refill rate of a source's allowance: 1/10 second of CPU time per second of wall-clock time.
const SOURCE_ALLOWANCE_DIVISOR: u32 = 10;
/// Divisor of the refill rate of the allowance that all sources share: 1/5 second of CPU time per second of wall-clock
/// time.
const SHARED_ALLOWANCE_DIVISOR: u32 = 5;

/// Divisor of the refill rate of a source's inline quota. Inline calls that take a thousandth of the wall-clock time do
/// not affect the 99th percentile of the latency of the program's own tasks.
const INLINE_DIVISOR: u32 = 1_000;
/// Burst of the inline quota and of a source's allowance, in CPU time.
const INLINE_BURST: Duration = Duration::from_millis(5);

/// Burst of the heavy-use quota, in CPU time. A source that exceeds the quota is heavy: its calls start in the
/// background pool.
const HEAVY_BURST: Duration = Duration::from_millis(50);
/// Divisor of the refill rate of the heavy-use quota for calls shorter than [`SHARED_CALL_LIMIT`], unless the
/// shared pool is saturated. For all other calls, the divisor is [`INLINE_DIVISOR`].
const SHORT_CALL_DIVISOR: u32 = 20;

/// Divisor of the refill rate of the shared pool's quota: 1/4 second of CPU time per second of wall-clock time.
const SHARED_POOL_DIVISOR: u32 = 4;
/// Burst of the shared pool's quota and of the allowance of all sources, in CPU time.
const SHARED_BURST: Duration = Duration::from_millis(50);

/// CPU quota of the guest calls of one source.
#[derive(Debug)]
pub(crate) struct CpuQuota(Mutex<SourceBuckets>);

/// State of a [`CpuQuota`]. The charge of a call is its CPU time multiplied by the divisor of the bucket's refill
/// rate. This is the time that the bucket takes to refill the charge.
#[derive(Debug)]
struct SourceBuckets {
    /// Number of further short calls until a call may start inline.
    probation_calls: u32,
    /// Allowance: CPU time of short calls that is not charged to the other buckets.
    allowance: TokenBucket,
    /// Inline quota: calls of the source start inline only while CPU time is available.
    inline: TokenBucket,
    /// Heavy-use quota: the source is heavy while the bucket is in debt.
    heavy: TokenBucket,
}

impl CpuQuota {
    /// Returns the quota of a new source. Its calls start inline only after [`PROBATION_CALLS`] short calls.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(SourceBuckets {
            probation_calls: PROBATION_CALLS,
            allowance: TokenBucket::with_burst(INLINE_BURST * SOURCE_ALLOWANCE_DIVISOR, now),
            inline: TokenBucket::with_burst(INLINE_BURST * INLINE_DIVISOR, now),
            heavy: TokenBucket::with_burst(HEAVY_BURST * INLINE_DIVISOR, now),
        }))
    }

    /// Returns whether the source's next call may start on the caller's thread.
    pub(crate) fn may_run_inline(&self, now: Instant) -> bool {
        let buckets = self.0.lock();
        buckets.probation_calls == 0 && !buckets.inline.available_time(now).is_zero()
    }

    /// Returns the clock for the source's next call: the precise thread clock, unless the inline quota is full.
    pub(crate) fn clock(&self, now: Instant) -> Clock {
        if self.0.lock().inline.time_to_full(now).is_zero() { Clock::Wall } else { Clock::Thread }
    }

    /// Returns whether the source's next call starts in the background pool.
    pub(crate) fn is_heavy(&self, now: Instant) -> bool {
        self.0.lock().is_heavy(now)
    }

    /// Charges the CPU time of a call. Calls `clock` only if the call took longer than [`FREE_PER_CALL`].
    pub(crate) fn charge(
        &self,
        time: Duration,
        shared: &SharedQuota,
        clock: impl FnOnce() -> Instant,
    ) {
        let mut buckets = self.0.lock();
        if time < INLINE_CALL_LIMIT {
            buckets.probation_calls = buckets.probation_calls.saturating_sub(1);
        }
        let mut charge = time.saturating_sub(FREE_PER_CALL);
        if charge.is_zero() {
            return;
        }
        let now = clock();
        if !buckets.is_heavy(now) {
            let left = buckets.allowance.available_time(now) / SOURCE_ALLOWANCE_DIVISOR;
            let wanted = charge.min(ALLOWANCE_PER_CALL).min(left);
            let covered = shared.take_allowance(wanted, now);
            let refill_time = covered * SOURCE_ALLOWANCE_DIVISOR;
            buckets.allowance.charge_time(refill_time, MAX_RECOVERY, now);
            charge -= covered;
        }
        if charge.is_zero() {
            return;
        }
        let divisor = if time > SHARED_CALL_LIMIT || shared.is_pool_saturated(now) {
            INLINE_DIVISOR
        } else {
            SHORT_CALL_DIVISOR
        };
        let inline_refill_time = charge.saturating_mul(INLINE_DIVISOR);
        buckets.inline.charge_time(inline_refill_time, MAX_RECOVERY, now);
        buckets.heavy.charge_time(charge.saturating_mul(divisor), MAX_RECOVERY, now);
    }
}

impl SourceBuckets {
    fn is_heavy(&self, now: Instant) -> bool {
        !self.heavy.time_in_debt(now).is_zero()
    }
}

/// CPU quota of all sources together. Bounds the total CPU time of many sources that each stay within their own quota.
#[derive(Debug)]
pub(crate) struct SharedQuota(Mutex<SharedBuckets>);

/// Token buckets of a [`SharedQuota`].
#[derive(Debug)]
struct SharedBuckets {
    /// Allowance: CPU time of short calls that is not charged to their sources.
    allowance: TokenBucket,
    /// CPU time that the calls of all sources together may use in the shared pool.
    shared_pool: TokenBucket,
}

impl SharedQuota {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(SharedBuckets {
            allowance: TokenBucket::with_burst(SHARED_BURST * SHARED_ALLOWANCE_DIVISOR, now),
            shared_pool: TokenBucket::with_burst(SHARED_BURST * SHARED_POOL_DIVISOR, now),
        }))
    }

    /// Charges CPU time that a call used in the shared pool.
    pub(crate) fn charge_pool(&self, time: Duration, now: Instant) {
        let max = SHARED_BURST * SHARED_POOL_DIVISOR * 2;
        self.0.lock().shared_pool.charge_time(time * SHARED_POOL_DIVISOR, max, now);
    }

    /// Returns whether the shared pool has exceeded its quota.
    fn is_pool_saturated(&self, now: Instant) -> bool {
        !self.0.lock().shared_pool.time_in_debt(now).is_zero()
    }

    /// Takes up to `wanted` from the allowance, and returns how much it took.
    fn take_allowance(&self, wanted: Duration, now: Instant) -> Duration {
        let mut buckets = self.0.lock();
        let granted = wanted.min(buckets.allowance.available_time(now) / SHARED_ALLOWANCE_DIVISOR);
        buckets.allowance.charge_time(granted * SHARED_ALLOWANCE_DIVISOR, MAX_RECOVERY, now);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quotas with a clock that the test sets.
    struct Quotas {
        source: CpuQuota,
        shared: SharedQuota,
        now: Instant,
    }

    impl Quotas {
        fn new() -> Self {
            let now = Instant::now();
            Self { source: CpuQuota::new(now), shared: SharedQuota::new(now), now }
        }

        /// Charges this many calls of the same CPU time to the source.
        fn charge(&self, calls: u32, time: Duration) {
            for _ in 0..calls {
                self.source.charge(time, &self.shared, || self.now);
            }
        }

        fn may_run_inline(&self) -> bool {
            self.source.may_run_inline(self.now)
        }

        fn clock(&self) -> Clock {
            self.source.clock(self.now)
        }

        fn is_heavy(&self) -> bool {
            self.source.is_heavy(self.now)
        }
    }

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn new_source_runs_inline_after_probation() {
        let quotas = Quotas::new();
        for _ in 0..PROBATION_CALLS {
            assert!(!quotas.may_run_inline());
            quotas.charge(1, FREE_PER_CALL / 2);
        }
        assert!(quotas.may_run_inline());
    }

    #[test]
    fn charged_source_uses_thread_clock() {
        let mut quotas = Quotas::new();
        quotas.charge(1, ALLOWANCE_PER_CALL / 2);
        assert_eq!(quotas.clock(), Clock::Wall, "covered by the allowance");
        quotas.charge(1, ALLOWANCE_PER_CALL * 2);
        assert_eq!(quotas.clock(), Clock::Thread);
        quotas.now += ALLOWANCE_PER_CALL * INLINE_DIVISOR;
        assert_eq!(quotas.clock(), Clock::Wall, "the quota is full again");
    }

    /// A source loses inline execution first and the shared pool later. Calls that the allowance covers
    /// cause neither.
    #[test]
    fn source_is_demoted_by_cpu_use() {
        let mut quotas = Quotas::new();
        quotas.charge(1_000_000, FREE_PER_CALL / 2);
        assert!(quotas.may_run_inline(), "free calls, however many");
        quotas.charge(20, ALLOWANCE_PER_CALL);
        assert!(quotas.may_run_inline(), "covered by the allowance");
        assert_eq!(quotas.clock(), Clock::Wall);
        quotas.charge(4, MILLISECOND);
        assert!(quotas.may_run_inline(), "within the burst");
        quotas.charge(1, 10 * MILLISECOND);
        assert!(!quotas.may_run_inline());
        assert!(!quotas.is_heavy(), "as much as opening an instance");
        quotas.charge(1, 100 * MILLISECOND);
        assert!(quotas.is_heavy());
        quotas.charge(1, Duration::from_secs(3600));
        assert!(quotas.is_heavy() && !quotas.may_run_inline());
        quotas.now += MAX_RECOVERY;
        assert!(!quotas.is_heavy() && quotas.may_run_inline(), "the recovery is bounded");
        assert_eq!(quotas.clock(), Clock::Wall);
    }

    #[test]
    fn allowance_is_exhausted_by_many_short_calls() {
        let quotas = Quotas::new();
        quotas.charge(100, ALLOWANCE_PER_CALL);
        assert!(!quotas.may_run_inline());
        assert!(!quotas.is_heavy());
    }

    #[test]
    fn short_calls_recover_sooner_than_long_ones() {
        let quotas = Quotas::new();
        quotas.charge(1_000, MILLISECOND);
        assert!(!quotas.may_run_inline());
        assert!(!quotas.is_heavy(), "one second of short calls");
        quotas.charge(5_000, 2 * MILLISECOND);
        assert!(quotas.is_heavy(), "ten more seconds of short calls");
    }

    #[test]
    fn allowance_is_shared_by_all_sources() {
        let Quotas { shared, now, .. } = Quotas::new();
        let sources: Vec<_> = (0..100).map(|_| CpuQuota::new(now)).collect();
        for _ in 0..20 {
            sources.iter().for_each(|source| source.charge(ALLOWANCE_PER_CALL, &shared, || now));
        }
        let is_charged = |source: &CpuQuota| source.clock(now) == Clock::Thread;
        assert!(sources.iter().any(is_charged), "half a second of CPU time in total");
        let alone = Quotas::new();
        alone.charge(20, ALLOWANCE_PER_CALL);
        assert_eq!(alone.clock(), Clock::Wall);
    }

    #[test]
    fn saturated_pool_makes_source_heavy_sooner() {
        let quotas = Quotas::new();
        quotas.shared.charge_pool(SHARED_BURST / 2, quotas.now);
        quotas.charge(100, MILLISECOND);
        assert!(!quotas.is_heavy(), "the pool is within its quota");
        quotas.shared.charge_pool(SHARED_BURST, quotas.now);
        quotas.charge(100, MILLISECOND);
        assert!(quotas.is_heavy());
        let other = CpuQuota::new(quotas.now);
        other.charge(MILLISECOND, &quotas.shared, || quotas.now);
        assert!(!other.is_heavy(quotas.now), "one short call");
    }
}

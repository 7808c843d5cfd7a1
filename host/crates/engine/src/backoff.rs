//! Exponential backoff with full jitter after failures, and the random number generator of the
//! timers.

use crate::types::{Failure, FailureKind};
use std::time::Duration;

/// Backoff state: the number of consecutive failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
}

/// Upper bound of the first retry delay after a transient failure or a crash.
const TRANSIENT_FIRST_DELAY: Duration = Duration::from_millis(100);
/// Maximum retry delay after a transient failure or a crash.
const TRANSIENT_MAX_DELAY: Duration = Duration::from_secs(10);
/// Upper bound of the first retry delay after a permanent failure. [`PERMANENT_MAX_DELAY`] bounds
/// the later ones.
const PERMANENT_FIRST_DELAY: Duration = Duration::from_secs(5);
/// Maximum retry delay after a permanent failure.
const PERMANENT_MAX_DELAY: Duration = Duration::from_secs(300);
/// Maximum `retry-after` of a source that the engine honours.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

impl Backoff {
    /// Counts one more failure and returns the delay before the retry.
    ///
    /// The upper bound doubles with each failure. The delay is a uniformly random share of it (full
    /// jitter), which avoids a thundering herd on a shared server. After a transient failure or a
    /// crash, the delay does not exceed the poll interval, unless the source asks for a longer one.
    pub(crate) fn next_delay(
        &mut self,
        failure: &Failure,
        interval: Duration,
        rng: &mut Rng,
    ) -> Duration {
        let (first_delay, max_delay) = match failure.kind {
            FailureKind::Transient { .. } | FailureKind::Crashed => (
                TRANSIENT_FIRST_DELAY,
                TRANSIENT_MAX_DELAY.min(interval.max(TRANSIENT_FIRST_DELAY)),
            ),
            FailureKind::Denied | FailureKind::Config | FailureKind::Permanent => {
                (PERMANENT_FIRST_DELAY, PERMANENT_MAX_DELAY)
            }
        };
        let exponent = self.failures.min(16);
        self.failures += 1;
        let upper_bound = first_delay.saturating_mul(1 << exponent).min(max_delay);
        let lower_bound = match failure.kind {
            FailureKind::Transient { .. } => retry_after(failure),
            FailureKind::Denied
            | FailureKind::Config
            | FailureKind::Permanent
            | FailureKind::Crashed => upper_bound / 2,
        };
        upper_bound.mul_f64(rng.next_f64()).max(lower_bound)
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Returns the delay that the source requested, at most [`MAX_RETRY_AFTER`].
pub(crate) fn retry_after(failure: &Failure) -> Duration {
    match failure.kind {
        FailureKind::Transient { retry_after } => {
            retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)
        }
        FailureKind::Denied
        | FailureKind::Config
        | FailureKind::Permanent
        | FailureKind::Crashed => Duration::ZERO,
    }
}

/// SplitMix64 random number generator: fast, small and deterministic for a given seed.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next uniformly distributed number in `[0, 1)`.
    pub(crate) fn next_f64(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

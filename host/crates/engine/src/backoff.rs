//! How long to wait after a failure, and how timers are kept from meeting.

use crate::types::{Failure, FailureKind};
use std::time::Duration;

/// Counts failures in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
}

/// What may go away by itself: the first pause is up to this long …
const SOON: Duration = Duration::from_millis(100);
/// … and no pause is longer than this.
const SOON_MAX: Duration = Duration::from_secs(10);
/// What will not: the same.
const LATER: Duration = Duration::from_secs(5);
const LATER_MAX: Duration = Duration::from_secs(300);
/// What the source asks for is obeyed, up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

impl Backoff {
    /// The pause after one more failure: exponential, with full jitter (a uniformly random share of
    /// the whole), since that spreads many clients of one server best. A source that is polled more
    /// often than the longest pause is also tried again that often.
    pub(crate) fn pause(
        &mut self,
        failure: &Failure,
        interval: Duration,
        random: &mut Random,
    ) -> Duration {
        let (base, cap) = match failure.kind {
            FailureKind::Transient { .. } | FailureKind::Crashed => {
                (SOON, SOON_MAX.min(interval.max(SOON)))
            }
            FailureKind::Denied | FailureKind::Config | FailureKind::Permanent => {
                (LATER, LATER_MAX)
            }
        };
        let exponent = self.failures.min(16);
        self.failures += 1;
        let whole = base.saturating_mul(1 << exponent).min(cap);
        let at_least = match failure.kind {
            FailureKind::Transient { .. } => asked(failure),
            FailureKind::Denied
            | FailureKind::Config
            | FailureKind::Permanent
            | FailureKind::Crashed => whole / 2,
        };
        whole.mul_f64(random.share()).max(at_least)
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// How long the source asked not to be called again.
pub(crate) fn asked(failure: &Failure) -> Duration {
    match failure.kind {
        FailureKind::Transient { retry_after } => {
            retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)
        }
        FailureKind::Denied
        | FailureKind::Config
        | FailureKind::Permanent
        | FailureKind::Crashed => Duration::ZERO,
    }
}

/// SplitMix64: a few instructions, and the same numbers for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 up to, but not including, 1.
    pub(crate) fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

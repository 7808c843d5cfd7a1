//! Delay before the retry after a failure: exponential backoff with jitter, with limits for each
//! kind of failure, and at least the `retry-after` of the source.

use crate::{
    jitter_rng::JitterRng,
    types::{Failure, FailureKind},
};
use reloader_util::backoff;
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
/// Upper bound of the first retry delay after a permanent failure, a denial or a configuration error.
/// [`PERMANENT_MAX_DELAY`] bounds the later ones.
const PERMANENT_FIRST_DELAY: Duration = Duration::from_secs(5);
/// Maximum retry delay after a permanent failure, a denial or a configuration error.
const PERMANENT_MAX_DELAY: Duration = Duration::from_secs(300);
/// Maximum delay that a source can request with a `retry-after`. A longer one is shortened.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

impl Backoff {
    /// Counts one more failure and returns the delay before the retry.
    ///
    /// The upper bound doubles with each failure. After a transient failure, the delay is a uniformly
    /// random share of the upper bound (full jitter), which avoids a thundering herd on a shared
    /// server. After any other failure, it is at least half of the upper bound. After a transient
    /// failure or a crash, the delay does not exceed the poll interval, unless the source requests a
    /// longer delay or the interval is shorter than [`TRANSIENT_FIRST_DELAY`].
    pub(crate) fn next_delay(
        &mut self,
        failure: &Failure,
        interval: Duration,
        rng: &mut JitterRng,
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
        let upper_bound = backoff::exponential(first_delay, max_delay, self.failures);
        self.failures = self.failures.saturating_add(1);
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

/// Returns the delay that the source requested, at most [`MAX_RETRY_AFTER`]; zero without a request.
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

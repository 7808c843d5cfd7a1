//! Exponential backoff with jitter, to avoid thundering herds.

use std::{collections::hash_map::RandomState, hash::BuildHasher, time::Duration};

/// Maximum number of times that a delay is doubled.
const MAX_EXPONENT: u32 = 16;

/// Returns `first`, doubled `failures` times (16 times at most) and limited to `max`: exponential backoff without
/// jitter.
#[must_use]
pub fn exponential(first: Duration, max: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.min(MAX_EXPONENT)).min(max)
}

/// Returns the delay of [`exponential`] with [`equal_jitter`].
#[must_use]
pub fn exponential_with_jitter(first: Duration, max: Duration, failures: u32) -> Duration {
    equal_jitter(exponential(first, max, failures))
}

/// Returns half of `delay`, plus a random part of the other half ("equal jitter").
#[must_use]
pub fn equal_jitter(delay: Duration) -> Duration {
    delay.mul_f64(0.5 + random_fraction() / 2.0)
}

/// Returns a random number from 0 to 1.
#[must_use]
pub fn random_fraction() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn delay_doubles_up_to_its_maximum() {
        let delays = [0, 1, 2, 6, 7, u32::MAX].map(|failures| exponential(FIRST, MAX, failures));
        assert_eq!(delays.map(|delay| delay.as_millis()), [100, 200, 400, 6_400, 10_000, 10_000]);
        assert_eq!(exponential(Duration::MAX, MAX, 1), MAX);
    }

    #[test]
    fn jitter_keeps_at_least_half_of_the_delay() {
        for _ in 0..1_000 {
            let delay = exponential_with_jitter(FIRST, MAX, 3);
            assert!((FIRST * 4..=FIRST * 8).contains(&delay), "{delay:?}");
        }
    }
}

//! Pauses that differ by chance, so that many who wait do not come back together.

use std::{collections::hash_map::RandomState, hash::BuildHasher, time::Duration};

/// Twice as long after each failure, up to the longest one; and half of that by chance.
pub(crate) fn growing(first: Duration, longest: Duration, failures: u32) -> Duration {
    halved(first.saturating_mul(1 << failures.min(16)).min(longest))
}

/// At least half of it, and the rest by chance.
pub(crate) fn halved(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + chance() / 2.0)
}

/// From nought to one, by chance.
pub(crate) fn chance() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

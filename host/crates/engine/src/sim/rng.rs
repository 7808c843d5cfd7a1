//! Random number generator of the simulation, deterministic for a given seed.

use crate::{
    jitter_rng::JitterRng,
    types::{Failure, FailureKind},
};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct SimRng(JitterRng);

impl SimRng {
    pub(super) fn new(seed: u64) -> Self {
        // Scrambles the seed, because neighbouring seeds would otherwise produce correlated sequences.
        Self(JitterRng::new(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5bf0_3635))
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.0.next_f64() < probability
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.0.next_f64() * end as f64) as usize
    }

    pub(super) fn up_to(&mut self, max: Duration) -> Duration {
        Duration::from_nanos((max.as_nanos() as f64 * self.0.next_f64()) as u64)
    }

    pub(super) fn between(&mut self, min: Duration, max: Duration) -> Duration {
        min + self.up_to(max.saturating_sub(min))
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Draws a failure. With `permanent`, it may also be of a kind that a retry does not resolve.
    pub(super) fn failure(&mut self, permanent: bool, max_retry_after: Duration) -> Failure {
        let kind = match self.below(10) {
            0 if permanent => FailureKind::Denied,
            1 if permanent => FailureKind::Permanent,
            2 if permanent && self.chance(0.3) => FailureKind::Config,
            3 | 4 => FailureKind::Transient { retry_after: Some(self.up_to(max_retry_after)) },
            _ => FailureKind::Transient { retry_after: None },
        };
        Failure::new(kind, "injected fault")
    }
}

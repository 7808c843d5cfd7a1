//! Chance, the same for the same seed.

use super::source::Content;
use crate::{
    backoff::Random,
    types::{Failure, FailureKind},
};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Dice(Random);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring seeds would give the generator's neighbouring states.
        Self(Random::new(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5bf0_3635))
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.0.share() < share
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.0.share() * end as f64) as usize
    }

    pub(super) fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_nanos((longest.as_nanos() as f64 * self.0.share()) as u64)
    }

    pub(super) fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        shortest + self.up_to(longest.saturating_sub(shortest))
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// What may be written: mostly something, and mostly something good.
    pub(super) fn content(&mut self) -> Option<Content> {
        match self.below(20) {
            0 => None,
            1 => Some(0),
            2 => Some(6),
            3 => Some(7),
            4 => Some(8),
            5 => Some(9),
            other => Some((other % 4) as Content + 1),
        }
    }

    /// Why something fails. `harsh`: also for reasons that do not go away by themselves.
    pub(super) fn failure(&mut self, harsh: bool, longest_pause: Duration) -> Failure {
        let kind = match self.below(10) {
            0 if harsh => FailureKind::Denied,
            1 if harsh => FailureKind::Permanent,
            2 if harsh && self.chance(0.3) => FailureKind::Config,
            3 | 4 => FailureKind::Transient { retry_after: Some(self.up_to(longest_pause)) },
            _ => FailureKind::Transient { retry_after: None },
        };
        Failure::new(kind, "a fault")
    }
}

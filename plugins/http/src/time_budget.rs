//! How long to wait: for each step, and for all of them together.

use std::time::{Duration, Instant};

/// How long to wait: for each step, and for all of them together.
pub(crate) struct Patience {
    step: Duration,
    end: Instant,
}

impl Patience {
    /// Starts now.
    pub(crate) fn new(step: Duration, all: Duration) -> Self {
        Self { step, end: Instant::now() + all }
    }

    /// How long the next step may take; `None` when the time is over.
    pub(crate) fn left(&self) -> Option<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(self.step))
    }
}

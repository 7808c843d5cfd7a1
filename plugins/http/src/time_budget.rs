//! Time budget of an operation with several steps.

use std::time::{Duration, Instant};

/// Time budget: a timeout for each step and a deadline for the whole operation.
pub(crate) struct TimeBudget {
    step_timeout: Duration,
    deadline: Instant,
}

impl TimeBudget {
    /// Creates a budget that begins now and lasts for `total`.
    pub(crate) fn new(step_timeout: Duration, total: Duration) -> Self {
        Self { step_timeout, deadline: Instant::now() + total }
    }

    /// Returns the timeout of the next step, or `None` after the deadline.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(self.step_timeout))
    }
}

//! Quarantine: no calls for a period after repeated crashes.

use crate::{
    engine_settings::Settings,
    inputs_and_effects::Role,
    jitter_rng::JitterRng,
    types::{Failure, FailureKind},
};
use reloader_util::backoff;
use std::time::Duration;

/// Maximum length of a quarantine, before jitter. A longer [`Settings::quarantine`] replaces it.
const MAX_QUARANTINE: Duration = Duration::from_secs(3600);

/// Crash counter of one [`Role`], i.e. of fetching or of watching. Only crashes increase the count. A
/// successful fetch, or an event of a watch that has been live for 5 s, resets it.
#[derive(Debug)]
pub(crate) struct CrashCounter {
    role: Role,
    /// Number of consecutive crashes.
    consecutive: u32,
    /// Number of quarantines since the last reset. Each one doubles the length of the next.
    quarantine_count: u32,
    /// Reason of the current quarantine; `None` outside a quarantine.
    reason: Option<Failure>,
}

/// Delay before the retry after a failure, and whether this delay is a quarantine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryPlan {
    pub(crate) retry_in: Duration,
    /// Number of consecutive crashes if they start a quarantine, which lasts for `retry_in`; `None`
    /// if no quarantine starts.
    pub(crate) quarantined_after: Option<u32>,
}

impl CrashCounter {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, consecutive: 0, quarantine_count: 0, reason: None }
    }

    /// Counts a failure if it is a crash, and returns the plan of the retry. `retry_in` is the
    /// backoff delay. If the crash starts a quarantine, the retry follows after the quarantine or
    /// after `retry_in`, whichever is longer.
    pub(crate) fn record_failure(
        &mut self,
        failure: &Failure,
        retry_in: Duration,
        settings: &Settings,
        rng: &mut JitterRng,
    ) -> RetryPlan {
        let without_quarantine = RetryPlan { retry_in, quarantined_after: None };
        if failure.kind != FailureKind::Crashed {
            return without_quarantine;
        }
        self.consecutive = self.consecutive.saturating_add(1);
        let crashes = self.consecutive;
        if crashes < settings.crashes_allowed {
            return without_quarantine;
        }
        let message = format!(
            "{} is in quarantine after {crashes} crashes in a row; last crash: {failure}",
            self.role
        );
        self.reason = Some(Failure::new(FailureKind::Crashed, message));
        let first = settings.quarantine;
        let length = backoff::exponential(first, MAX_QUARANTINE.max(first), self.quarantine_count);
        self.quarantine_count = self.quarantine_count.saturating_add(1);
        // Jitter: sources that crashed together do not retry together.
        let length = length.mul_f64(1.0 + rng.next_f64() * 0.05);
        RetryPlan { retry_in: length.max(retry_in), quarantined_after: Some(crashes) }
    }

    /// Returns the reason of the quarantine, if the role is in quarantine.
    pub(crate) fn quarantine_reason(&self) -> Option<&Failure> {
        self.reason.as_ref()
    }

    /// Ends the quarantine when the first call after it starts. The crash count stays: if that call
    /// crashes, the next quarantine starts.
    pub(crate) fn end_quarantine(&mut self) {
        self.reason = None;
    }

    /// Resets the counter after proof that the role works.
    pub(crate) fn reset(&mut self) {
        (self.consecutive, self.quarantine_count) = (0, 0);
    }

    /// Ends the quarantine on an explicit reload. The next quarantine is again as short as a first
    /// one. Returns whether the role was in quarantine.
    pub(crate) fn lift_quarantine(&mut self) -> bool {
        self.quarantine_count = 0;
        self.reason.take().is_some()
    }
}

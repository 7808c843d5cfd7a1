//! Oracle, crashes: counts crashes and checks quarantines.

use super::expected_state::{CrashCounter, Oracle, WatchState};
use crate::{
    Report, Role,
    types::{Failure, FailureKind},
};
use std::time::{Duration, Instant};

/// Retry delay that the oracle assumes until the engine reports the actual one: 34 years.
const RETRY_UNKNOWN: Duration = Duration::from_secs(1 << 30);

impl Oracle {
    pub(super) fn fetch_failed(&mut self, failure: Failure) {
        self.failing = true;
        self.outage = true;
        self.pending_removal = None;
        self.fetch_budget += 1;
        self.dirty_since_step.get_or_insert(self.steps);
        self.record_failure(Role::Reading, &failure);
        self.last_failure = Some(failure);
    }

    pub(super) fn watch_lost(&mut self, now: Instant, failure: &Failure) {
        let min_delay = retry_after(failure);
        self.watch_state = WatchState::Down {
            since: now,
            retry_at: now + RETRY_UNKNOWN,
            not_before: now + min_delay,
        };
        if failure.kind.is_transient() {
            self.failing = true;
            self.outage = true;
        }
        self.record_failure(Role::Watching, failure);
        self.fetch_budget += 1;
    }

    /// Returns the failure of a call that exceeded its deadline.
    pub(super) fn timeout_failure(&self) -> Failure {
        let transient = FailureKind::Transient { retry_after: None };
        let is_crash = self.settings.silence_is_crash;
        Failure::new(if is_crash { FailureKind::Crashed } else { transient }, "deadline exceeded")
    }

    fn crashes(&mut self, role: Role) -> &mut CrashCounter {
        match role {
            Role::Reading => &mut self.fetch_crashes,
            Role::Watching => &mut self.watch_crashes,
        }
    }

    fn record_failure(&mut self, role: Role, failure: &Failure) {
        if failure.kind == FailureKind::Crashed {
            self.crashed = true;
            self.crashes(role).consecutive += 1;
        }
    }

    /// Checks that the reported failure does not require a quarantine.
    pub(super) fn check_no_quarantine_due(&mut self, role: Role, failure: &Failure) {
        let max_crashes = self.settings.crashes_allowed;
        let crashes = self.crashes(role).consecutive;
        let is_expected = failure.kind != FailureKind::Crashed || crashes < max_crashes;
        self.check(is_expected, 8, "no quarantine after repeated crashes");
    }

    pub(super) fn quarantined(&mut self, now: Instant, report: &Report) {
        let Report::Quarantined { role, failure, crashes, retry_in } = report else { return };
        let (first, max_crashes) = (self.settings.quarantine, self.settings.crashes_allowed);
        let until = now + *retry_in;
        let counter = self.crashes(*role);
        let expected = first * (1 << counter.quarantine_count.min(10));
        let expected = expected.min(Duration::from_secs(3600));
        let counted = *crashes == counter.consecutive && *crashes >= max_crashes;
        counter.quarantine_count += 1;
        counter.until = Some(until);
        let max_length = expected.mul_f64(1.05).max(Duration::from_secs(10));
        self.check(failure.kind == FailureKind::Crashed, 8, "quarantine without a crash");
        self.check(counted, 8, "wrong crash count in quarantine");
        self.check((expected..=max_length).contains(retry_in), 8, "wrong length of quarantine");
        self.quarantine_started = true;
        self.quarantined_until = self.quarantined_until.max(Some(until));
        match role {
            Role::Reading => (self.not_before, self.retry_at) = (Some(until), Some(until)),
            Role::Watching => {
                if let WatchState::Down { retry_at, not_before, .. } = &mut self.watch_state {
                    (*retry_at, *not_before) = (until, until);
                }
            }
        }
    }

    /// Records that an explicit reload ends the quarantines, and resets their number.
    pub(super) fn lift_quarantines(&mut self, now: Instant) {
        self.fetch_crashes.until = None;
        (self.fetch_crashes.quarantine_count, self.watch_crashes.quarantine_count) = (0, 0);
        if self.watch_crashes.until.take().is_some()
            && let WatchState::Down { retry_at, not_before, .. } = &mut self.watch_state
        {
            (*retry_at, *not_before) = (now, now);
        }
    }

    /// Checks that the reason for staleness names the quarantine, if there is one.
    pub(super) fn check_reason_names_quarantine(&mut self, now: Instant, failure: &Failure) {
        let is_active = |crashes: &CrashCounter| crashes.until.is_some_and(|until| until > now);
        let (fetch_crashes, watch_crashes) =
            (is_active(&self.fetch_crashes), is_active(&self.watch_crashes));
        let is_silence = &*failure.message == "the source has not answered";
        self.check(
            !(is_silence && watch_crashes),
            6,
            "reason for staleness does not name the watch quarantine",
        );
        let named = failure.message.contains("in quarantine");
        let removal_pending = failure.message.contains("confirmation is pending");
        // A crash that starts no quarantine makes the value stale with this crash as the reason, even
        // if the other role is in quarantine.
        let due = self.quarantine_started || fetch_crashes && !self.crashed;
        self.check(
            !due || named || removal_pending,
            6,
            "reason for staleness does not name the quarantine",
        );
    }
}

/// Returns the delay that the source requested, at most one hour.
pub(super) fn retry_after(failure: &Failure) -> Duration {
    match failure.kind {
        FailureKind::Transient { retry_after } => {
            retry_after.unwrap_or_default().min(Duration::from_secs(3600))
        }
        FailureKind::Config
        | FailureKind::Denied
        | FailureKind::Permanent
        | FailureKind::Crashed => Duration::ZERO,
    }
}

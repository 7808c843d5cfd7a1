//! Failure handling: retries, staleness after crashes, and permanent failures.

use super::{Effect, Engine, Report, Role};
use crate::types::{Failure, FailureKind, Strategy, Value};
use crate::{mutations::Mutation, quarantine::RetryPlan};
use std::time::{Duration, Instant};

impl<V: Value> Engine<V> {
    /// Handles a failed fetch and schedules the retry.
    pub(crate) fn on_fetch_failed(
        &mut self,
        now: Instant,
        dirty: bool,
        failure: Failure,
        effects: &mut Vec<Effect<V>>,
    ) {
        if failure.kind == FailureKind::Config && !self.value_state.has_ever_published() {
            return self.give_up(failure, effects);
        }
        let plan = self.fetch.on_failed(now, &failure, dirty, &self.settings, &mut self.rng);
        self.fetch.schedule(now + plan.retry_in, true);
        if self.mutations.has(Mutation::FailedFetchNotRetried) {
            self.fetch.schedule(now + Duration::from_secs(1 << 30), true);
        }
        self.active_failure = Some(failure.clone());
        // A removal that was reported before an outage needs a new confirmation after it.
        if !self.mutations.has(Mutation::PendingRemovalSurvivesOutage) {
            self.value_state.cancel_pending_removal();
        }
        self.report_failure(Role::Reading, failure, plan, effects);
        if self.mutations.has(Mutation::FailureRemovesValue) {
            self.on_reported(now, None, None, Duration::ZERO, effects);
        }
    }

    /// Handles the loss of the watch and schedules the reopening.
    pub(crate) fn on_watch_lost(
        &mut self,
        now: Instant,
        failure: Failure,
        effects: &mut Vec<Effect<V>>,
    ) {
        let never_published = !self.value_state.has_ever_published();
        if failure.kind == FailureKind::Config && never_published {
            return self.give_up(failure, effects);
        }
        // Strategy `realtime` without a watch would publish the first value and no later one.
        if failure.kind == FailureKind::Permanent
            && self.settings.strategy == Strategy::Realtime
            && !self.watch.was_armed()
        {
            let message = format!("the source cannot be watched (strategy realtime): {failure}");
            return self.give_up(Failure::new(FailureKind::Config, message), effects);
        }
        let plan = self.watch.on_lost(now, &failure, &self.settings, &mut self.rng);
        if failure.kind.is_transient() {
            self.active_failure.get_or_insert_with(|| failure.clone());
        }
        self.report_failure(Role::Watching, failure, plan, effects);
        // Polling replaces the watch: the scheduled fetch may be a distant reconcile poll.
        if self.settings.strategy == Strategy::Hybrid
            && !self.mutations.has(Mutation::NoHybridPolling)
        {
            let next = self.next_poll(now);
            self.fetch.schedule_no_later_than(next);
        }
    }

    /// Reports a failure. After a crash, also marks the published value as stale.
    fn report_failure(
        &mut self,
        role: Role,
        failure: Failure,
        RetryPlan { retry_in, quarantined_after }: RetryPlan,
        effects: &mut Vec<Effect<V>>,
    ) {
        let has_crashed = failure.kind == FailureKind::Crashed
            && !self.mutations.has(Mutation::CrashKeepsValueFresh);
        let quarantine = match role {
            Role::Reading => self.fetch.quarantine_reason(),
            Role::Watching => self.watch.quarantine_reason(),
        };
        let reason = quarantine.unwrap_or(&failure).clone();
        effects.push(Effect::Report(match (quarantined_after, role) {
            (Some(crashes), _) => Report::Quarantined { role, failure, crashes, retry_in },
            (None, Role::Reading) => Report::FetchFailed { failure, retry_in },
            (None, Role::Watching) => Report::WatchLost { failure, retry_in },
        }));
        let reason_changed = quarantined_after.is_some() || !self.freshness.has_cause();
        if has_crashed && reason_changed && self.value_state.value().is_some() {
            self.mark_stale(reason, effects);
        }
    }

    /// Returns the failure of a call that exceeded its deadline, or of a watch that exceeded its
    /// liveness limit.
    pub(crate) fn timeout_failure(&self, reason: impl AsRef<str>) -> Failure {
        let is_crash =
            self.settings.silence_is_crash && !self.mutations.has(Mutation::TimeoutIsNoCrash);
        let transient = FailureKind::Transient { retry_after: None };
        Failure::new(if is_crash { FailureKind::Crashed } else { transient }, reason)
    }
}

//! Handlers of failed fetches and lost watches: retry, staleness after a crash, end of a source whose
//! settings can never work.

use crate::{
    crash_quarantine::RetryPlan,
    engine_state::EngineState,
    inputs_and_effects::{Effect, Report, Role},
    types::{Failure, FailureKind, Strategy, Value},
};
use std::time::Instant;

impl<V: Value> EngineState<V> {
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
        self.active_failure = Some(failure.clone());
        // A removal that was reported before this failure has to be reported and confirmed anew.
        self.value_state.cancel_pending_removal();
        self.report_failure(Role::Reading, failure, plan, effects);
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
        // A source with strategy `realtime` that cannot be watched ends. Without a watch, it would find
        // changes only at the reconcile interval.
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
        self.poll_instead_of_watching(now);
    }

    /// Reports a failure. After a crash, also marks the published value as stale.
    fn report_failure(
        &mut self,
        role: Role,
        failure: Failure,
        RetryPlan { retry_in, quarantined_after }: RetryPlan,
        effects: &mut Vec<Effect<V>>,
    ) {
        let has_crashed = failure.kind == FailureKind::Crashed;
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
}

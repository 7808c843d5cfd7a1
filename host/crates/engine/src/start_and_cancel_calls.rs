//! Calls to the source: starts those that are due, and cancels those that exceed their deadline.

use crate::{
    engine_state::EngineState,
    inputs_and_effects::Effect,
    types::{Failure, FailureKind, Value},
};
use std::time::Instant;

impl<V: Value> EngineState<V> {
    /// Cancels the fetch and closes the watch if they have exceeded their deadlines.
    pub(crate) fn cancel_overdue(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        if let Some(session) = self.fetch.overdue_session(now) {
            effects.push(Effect::CancelFetch);
            let timeout_text = self.settings.timeout_text();
            let failure = self.timeout_failure(format!("the source did not answer {timeout_text}"));
            if let Some(context) = self.fetch.context(session) {
                self.on_fetched(now, context, Err(failure), effects);
            }
        }
        if let Some(reason) = self.watch.timeout_reason(now, &self.settings) {
            effects.push(Effect::CloseWatch);
            self.on_watch_lost(now, self.timeout_failure(reason), effects);
            self.fetch.mark_dirty(now);
        }
    }

    /// Starts a fetch and opens the watch, each if it is due.
    pub(crate) fn start_due(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        let deadline = now + self.settings.timeout;
        if self.watch.is_due(now) {
            let session = self.next_session();
            self.watch.open(session, deadline);
            effects.push(Effect::OpenWatch(session, self.value_state.cursor()));
        }
        if let Some(unconditional) = self.fetch.due(now) {
            let session = self.next_session();
            self.fetch.start(session, now, deadline);
            let unconditional = unconditional || self.value_state.removal_confirm_at().is_some();
            let cursor = if unconditional { None } else { self.value_state.cursor() };
            effects.push(Effect::Fetch(session, cursor));
        }
        self.update_staleness(now, effects);
    }

    /// Returns the failure of a call that exceeded its deadline, or of a watch that exceeded its
    /// liveness limit.
    fn timeout_failure(&self, reason: impl AsRef<str>) -> Failure {
        let is_crash = self.settings.silence_is_crash;
        let transient = FailureKind::Transient { retry_after: None };
        Failure::new(if is_crash { FailureKind::Crashed } else { transient }, reason)
    }
}

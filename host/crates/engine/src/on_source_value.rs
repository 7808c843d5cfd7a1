//! Handler of values that the source reports, by a fetch or by the watch: requests the validation of
//! a new value, and the confirmation of a removal.

use crate::{
    engine_state::EngineState,
    inputs_and_effects::{Effect, Report},
    types::Value,
    value_state::Decision,
};
use std::time::{Duration, Instant};

impl<V: Value> EngineState<V> {
    /// Handles a value that the source reports. `None` means that the source has no value.
    /// `fetch_started_at` is the start of the fetch, or `None` for a watch event.
    pub(crate) fn on_reported_value(
        &mut self,
        now: Instant,
        reported: Option<V>,
        fetch_started_at: Option<Instant>,
        effects: &mut Vec<Effect<V>>,
    ) {
        let confirm_delay = self.removal_confirm_delay();
        let force = self.settings.force_reload;
        let decision =
            self.value_state.assess(now, reported, fetch_started_at, confirm_delay, force);
        self.apply_decision(now, decision, effects);
    }

    /// Handles [`Outcome::Unchanged`](crate::types::Outcome::Unchanged): the source still has the
    /// value whose cursor the fetch sent.
    pub(crate) fn on_unchanged(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        let decision = self.value_state.unchanged(now, self.settings.force_reload);
        self.apply_decision(now, decision, effects);
    }

    /// Returns the delay before a removal is confirmed. It is longer after a start and after a
    /// failure, because a restarted source may report no value before it has loaded its data.
    fn removal_confirm_delay(&self) -> Duration {
        if !self.has_confirmed || self.active_failure.is_some() {
            self.settings.confirm_after_outage
        } else {
            self.settings.confirm
        }
    }

    /// Adds the effects of a decision on a reported value: validate, confirm, publish a removal, or none.
    fn apply_decision(
        &mut self,
        now: Instant,
        decision: Decision<V>,
        effects: &mut Vec<Effect<V>>,
    ) {
        match decision {
            Decision::Current => self.mark_confirmed(now, effects),
            Decision::Pending => {}
            Decision::DiffersFromPin { first } => {
                if first {
                    effects.push(Effect::Report(Report::DiffersFromPin));
                }
                self.mark_confirmed(now, effects);
            }
            Decision::Validate(value) => {
                let session = self.next_session();
                self.value_state.start_validation(session, value.clone());
                effects.push(Effect::Validate(session, value));
            }
            Decision::ConfirmRemoval { confirm_at, first } => {
                self.fetch.schedule_no_later_than(confirm_at);
                if first {
                    let confirm_in = confirm_at.saturating_duration_since(now);
                    effects.push(Effect::Report(Report::RemovalUnconfirmed { confirm_in }));
                }
            }
            Decision::Removed(revision) => {
                effects.push(Effect::PublishRemoved(revision));
                self.mark_confirmed(now, effects);
            }
            Decision::NoValueYet => {
                effects.push(Effect::Report(Report::NoValueYet));
                self.mark_confirmed(now, effects);
            }
        }
    }
}

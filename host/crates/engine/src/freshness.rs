//! Freshness of the published value: fresh, stale, or not confirmed since a restart.

use crate::{
    engine_settings::Settings,
    engine_state::{EngineState, Freshness},
    inputs_and_effects::{Effect, Report},
    types::{Failure, Value},
};
use std::time::Instant;

/// Reason of [`Effect::Stale`] for a value from before a restart that the source has not confirmed
/// yet. This reason occurs at every start and is not a failure. The next failure replaces it.
pub const UNCONFIRMED: &str = "the source has not yet confirmed the restored value";

impl<V: Value> EngineState<V> {
    /// Records that the source has confirmed the published value, or has answered while a value is
    /// pinned.
    pub(crate) fn mark_confirmed(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        self.confirmed_at = now;
        self.has_confirmed = true;
        effects.push(Effect::Confirmed);
        if self.active_failure.take().is_some() {
            effects.push(Effect::Report(Report::Recovered));
        }
        match std::mem::replace(&mut self.freshness, Freshness::Current) {
            Freshness::Current | Freshness::Resumed => {}
            Freshness::Unconfirmed | Freshness::Stale => effects.push(Effect::Fresh),
        }
    }

    /// Reports that the value has become stale, or that a failure replaces [`UNCONFIRMED`] as the
    /// reason.
    pub(crate) fn update_staleness(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        match self.freshness {
            Freshness::Current => {
                if self.stale_at().is_some_and(|at| at <= now) {
                    self.mark_stale(self.stale_reason(), effects);
                }
            }
            Freshness::Resumed => {
                self.freshness = Freshness::Unconfirmed;
                effects.push(Effect::Stale(Failure::transient(UNCONFIRMED)));
            }
            Freshness::Unconfirmed => {
                if self.active_failure.is_some() {
                    self.mark_stale(self.stale_reason(), effects);
                }
            }
            Freshness::Stale => {}
        }
    }

    /// Tells the driver that the published value is stale because of `reason`.
    pub(crate) fn mark_stale(&mut self, reason: Failure, effects: &mut Vec<Effect<V>>) {
        self.freshness = Freshness::Stale;
        effects.push(Effect::Stale(reason));
    }

    /// Returns the time at which the value becomes stale without a further confirmation. Returns
    /// `None` if the value is already stale, or if there is no value.
    pub(crate) fn stale_at(&self) -> Option<Instant> {
        let is_current = self.freshness == Freshness::Current;
        if !is_current || self.value_state.value().is_none() {
            return None;
        }
        let Settings { stale_after, liveness, reconcile, .. } = self.settings;
        // While a watch is live, the value is confirmed at least once per liveness limit by an alive
        // event, or once per reconcile interval by a poll. The factor 2 leaves a margin.
        let max_age = if self.watch.is_live() && self.active_failure.is_none() {
            stale_after.max(liveness.min(reconcile) * 2)
        } else {
            stale_after
        };
        Some(self.confirmed_at + max_age)
    }

    /// Returns the reason for staleness: a pending removal, a quarantine, a failure or silence.
    pub(crate) fn stale_reason(&self) -> Failure {
        if self.value_state.removal_confirm_at().is_some() {
            return Failure::transient(
                "the source reports an absent or empty value; confirmation is pending",
            );
        }
        let reason = self
            .fetch
            .quarantine_reason()
            .or(self.active_failure.as_ref())
            .or(self.watch.quarantine_reason());
        let no_answer = || Failure::transient("the source has not answered");
        reason.cloned().unwrap_or_else(no_answer)
    }
}

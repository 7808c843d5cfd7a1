//! Hybrid fallback: strategy `hybrid` polls at the poll interval while its watch is down, and at
//! the reconcile interval while the watch is live.

use crate::{
    engine_settings::Settings,
    engine_state::EngineState,
    types::{Strategy, Value},
};
use std::time::{Duration, Instant};

impl<V: Value> EngineState<V> {
    /// Brings the next fetch forward to the poll interval after the loss of the watch, if the
    /// strategy is `hybrid`. The scheduled fetch may be a reconcile poll in the distant future.
    pub(crate) fn poll_instead_of_watching(&mut self, now: Instant) {
        if self.settings.strategy == Strategy::Hybrid {
            let next = self.next_poll(now);
            self.fetch.schedule_no_later_than(next);
        }
    }

    /// Returns the time of the next poll, or an earlier one at which a removal is confirmed or a
    /// rejected value is validated again.
    pub(crate) fn next_poll(&mut self, now: Instant) -> Instant {
        let period = poll_period(&self.settings, self.watch.is_live());
        let next = now + self.fetch.jittered(period, &mut self.rng);
        let earlier = self.value_state.removal_confirm_at().or(self.value_state.retry_at());
        earlier.map_or(next, |at| at.max(now).min(next))
    }
}

/// Returns the time between two polls: the poll interval or the reconcile interval.
fn poll_period(settings: &Settings, watch_is_live: bool) -> Duration {
    match (settings.strategy, watch_is_live) {
        (Strategy::Polling, _) | (Strategy::Hybrid, false) => settings.interval,
        (Strategy::Realtime, _) | (Strategy::Hybrid, true) => settings.reconcile,
    }
}

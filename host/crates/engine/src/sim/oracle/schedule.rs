//! Oracle, liveness: checks that the engine starts fetches and watches and reports staleness in
//! time, and that it does not fetch too often.

use super::expected_state::{Oracle, WatchState};
use crate::{Engine, Settings, sim::source::SimValue, types::Strategy};
use std::time::{Duration, Instant};

impl Oracle {
    pub(super) fn watch_overdue(&self, now: Instant) -> bool {
        match self.watch_state {
            WatchState::Down { .. } => false,
            WatchState::Opening { since, .. } => since + self.settings.timeout <= now,
            WatchState::Live { last_event_at, .. } => {
                last_event_at.checked_add(self.settings.liveness).is_some_and(|at| at <= now)
            }
        }
    }

    /// Checks the invariants that hold between two steps.
    pub(in crate::sim) fn check_between_steps(&mut self, now: Instant, engine: &Engine<SimValue>) {
        if self.gave_up {
            self.check(engine.deadline().is_none(), 8, "deadline after giving up");
            return;
        }
        let Settings { timeout, .. } = self.settings;
        let in_flight = self.in_flight.as_ref().map(|fetch| fetch.started_at);
        self.check(in_flight.is_none_or(|at| at + timeout > now), 9, "fetch exceeded its deadline");
        let overdue = self.watch_overdue(now);
        self.check(!overdue, 9, "watch exceeded its deadline or liveness limit");
        self.check(self.validation_due.is_none(), 5, "new value not validated");
        self.previous_cursors.clear();
        self.check_watch_retry(now);
        self.check_next_fetch(now, engine);
        self.check_freshness(now);
        self.check_pin();
    }

    fn check_watch_retry(&mut self, now: Instant) {
        if let WatchState::Down { retry_at, .. } = self.watch_state {
            let due = self.settings.strategy != Strategy::Polling && self.fetched_once;
            self.check(!due || retry_at > now, 8, "watch not reopened");
        }
    }

    fn check_next_fetch(&mut self, now: Instant, engine: &Engine<SimValue>) {
        let next = match (engine.next_fetch(), &self.in_flight) {
            (Some(next), None) => next,
            (None, Some(_)) => return,
            (Some(_), Some(_)) | (None, None) => {
                return self.record_violation(9, "inconsistent state of the fetch in flight");
            }
        };
        let Settings { strategy, interval, reconcile, .. } = self.settings;
        let live = matches!(self.watch_state, WatchState::Live { .. });
        let period = match (strategy, live) {
            (Strategy::Polling, _) | (Strategy::Hybrid, false) => interval,
            (Strategy::Realtime, _) | (Strategy::Hybrid, true) => reconcile,
        };
        let tolerance = Duration::from_millis(20);
        let earliest = self.not_before.map_or(now, |at| at.max(now));
        let latest = match self.retry_at {
            Some(retry_at) => retry_at.max(earliest),
            None if self.dirty_since_step.is_some() => earliest,
            None => (now + period.mul_f64(1.05)).max(earliest),
        };
        let point = if self.dirty_since_step.is_some() { 10 } else { 8 };
        self.check(next <= latest + tolerance, point, "next fetch scheduled too late");
    }

    fn check_freshness(&mut self, now: Instant) {
        let Settings { stale_after, liveness, reconcile, .. } = self.settings;
        let max_age = match self.watch_state {
            WatchState::Live { .. } => stale_after.max(liveness.min(reconcile) * 2),
            WatchState::Down { .. } | WatchState::Opening { .. } => stale_after,
        };
        let current = self.published.is_none() || self.confirmed_at + max_age > now;
        self.check(self.stale || current, 6, "staleness not reported");
        let crashed = self.crashed && self.published.is_some();
        self.check(self.stale || !crashed, 6, "value not stale after a crash");
        let unconfirmed = self.unconfirmed;
        self.check(self.stale || !unconfirmed, 6, "value from before a restart not stale");
        let reason_replaced = !(unconfirmed && self.failing);
        self.check(reason_replaced, 6, "reason for staleness does not name the failure");
    }

    /// Checks that the number of fetches does not exceed those that polls, events and failures cause.
    pub(in crate::sim) fn check_fetch_rate(&mut self, now: Instant) {
        let Settings { interval, reconcile, .. } = self.settings;
        let periods =
            (now - self.run_started_at).as_secs_f64() / interval.min(reconcile).as_secs_f64();
        let max_fetches = 20.0 + self.fetch_budget as f64 + 1.06 * periods;
        self.check(self.fetches as f64 <= max_fetches, 8, "too many fetches");
    }

    /// Returns the start of the fetch in flight.
    pub(in crate::sim) fn fetch_started_at(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|fetch| fetch.started_at)
    }

    /// Returns whether the watch is live, or the strategy has none.
    pub(in crate::sim) fn is_watching(&self) -> bool {
        self.settings.strategy == Strategy::Polling
            || matches!(self.watch_state, WatchState::Live { .. })
    }
}

//! What must hold between two steps: nothing is forgotten, nothing hangs, nothing loops.

use super::{Oracle, Watching};
use crate::{Engine, Settings, sim::source::Held, types::Strategy};
use std::time::{Duration, Instant};

impl Oracle {
    pub(super) fn watch_overdue(&self, now: Instant) -> bool {
        match self.watching {
            Watching::No { .. } => false,
            Watching::Opening { since, .. } => since + self.settings.timeout <= now,
            Watching::Live { heard_at, .. } => {
                heard_at.checked_add(self.settings.liveness).is_some_and(|at| at <= now)
            }
        }
    }

    /// What must hold between two steps.
    pub(in crate::sim) fn settled(&mut self, now: Instant, engine: &Engine<Held>) {
        if self.gave_up {
            self.demand(engine.deadline().is_none(), 8, "it gave up, and wants more");
            return;
        }
        let Settings { timeout, .. } = self.settings;
        let in_flight = self.asked.as_ref().map(|asked| asked.at);
        self.demand(in_flight.is_none_or(|at| at + timeout > now), 9, "a fetch has no deadline");
        let overdue = self.watch_overdue(now);
        self.demand(!overdue, 9, "a watch is neither heard nor closed");
        self.demand(self.offers_due.is_none(), 5, "news is not tried");
        self.cursors_before.clear();
        self.watched_again(now);
        self.reads_on(now, engine);
        self.fresh(now);
        self.holds();
    }

    fn watched_again(&mut self, now: Instant) {
        if let Watching::No { retry_at, .. } = self.watching {
            let due = self.settings.strategy != Strategy::Polling && self.read_once;
            self.demand(!due || retry_at > now, 8, "the watch is not opened again");
        }
    }

    fn reads_on(&mut self, now: Instant, engine: &Engine<Held>) {
        let next = match (engine.next_fetch(), &self.asked) {
            (Some(next), None) => next,
            (None, Some(_)) => return,
            (Some(_), Some(_)) | (None, None) => {
                return self.violated(9, "it does not know what it has asked");
            }
        };
        let Settings { strategy, interval, reconcile, .. } = self.settings;
        let live = matches!(self.watching, Watching::Live { .. });
        let period = match (strategy, live) {
            (Strategy::Polling, _) | (Strategy::Hybrid, false) => interval,
            (Strategy::Realtime, _) | (Strategy::Hybrid, true) => reconcile,
        };
        let tolerance = Duration::from_millis(20);
        let soon = self.not_before.map_or(now, |at| at.max(now));
        let latest = match self.retry_at {
            Some(retry_at) => retry_at.max(soon),
            None if self.announced.is_some() => soon,
            None => (now + period.mul_f64(1.05)).max(soon),
        };
        let point = if self.announced.is_some() { 10 } else { 8 };
        self.demand(next <= latest + tolerance, point, "it is not read again in time");
    }

    fn fresh(&mut self, now: Instant) {
        let Settings { stale_after, liveness, reconcile, .. } = self.settings;
        let promise = match self.watching {
            Watching::Live { .. } => stale_after.max(liveness.min(reconcile) * 2),
            Watching::No { .. } | Watching::Opening { .. } => stale_after,
        };
        let current = self.published.is_none() || self.confirmed_at + promise > now;
        self.demand(self.stale || current, 6, "stale, and it is not said");
        let crashed = self.crashed && self.published.is_some();
        self.demand(self.stale || !crashed, 6, "crashed, and the value is not stale");
        let unconfirmed = self.unconfirmed;
        self.demand(self.stale || !unconfirmed, 6, "from before a restart, and taken for current");
        let named = !(unconfirmed && self.trouble);
        self.demand(named, 6, "the reason for being stale is not the failure");
    }

    /// Whether the engine has asked more often than there was reason to.
    pub(in crate::sim) fn rate(&mut self, now: Instant) {
        let Settings { interval, reconcile, .. } = self.settings;
        let periods = (now - self.started_at).as_secs_f64() / interval.min(reconcile).as_secs_f64();
        let allowed = 20.0 + self.allowed as f64 + 1.06 * periods;
        self.demand(self.fetches as f64 <= allowed, 8, "the source is read in a loop");
    }

    /// When what is being read was asked.
    pub(in crate::sim) fn asked_at(&self) -> Option<Instant> {
        self.asked.as_ref().map(|asked| asked.at)
    }

    /// Whether the watch is live, where there shall be one.
    pub(in crate::sim) fn listens(&self) -> bool {
        self.settings.strategy == Strategy::Polling
            || matches!(self.watching, Watching::Live { .. })
    }
}

//! What has failed, what has crashed, and when it is tried again.

use super::{Effect, Engine, Report, Role};
use crate::types::{Failure, FailureKind, Strategy, Value};
use crate::{mutations::Bug, quarantine::Pause};
use std::time::{Duration, Instant};

impl<V: Value> Engine<V> {
    pub(crate) fn fetch_failed(
        &mut self,
        now: Instant,
        dirty: bool,
        failure: Failure,
        effects: &mut Vec<Effect<V>>,
    ) {
        if failure.kind == FailureKind::Config && !self.ledger.has_published() {
            return self.give_up(failure, effects);
        }
        let pause = self.fetch.failed(now, &failure, dirty, &self.settings, &mut self.random);
        self.fetch.schedule(now + pause.retry_in, true);
        if self.bugs.has(Bug::FailureEndsPolling) {
            self.fetch.schedule(now + Duration::from_secs(1 << 30), true);
        }
        self.trouble = Some(failure.clone());
        // What was doubted before an outage has to be said anew after it.
        if !self.bugs.has(Bug::DoubtOutlivesOutage) {
            self.ledger.forget_doubt();
        }
        self.failed(Role::Reading, failure, pause, effects);
        if self.bugs.has(Bug::FailureRemoves) {
            self.said(now, None, None, Duration::ZERO, effects);
        }
    }

    pub(crate) fn watch_lost(
        &mut self,
        now: Instant,
        failure: Failure,
        effects: &mut Vec<Effect<V>>,
    ) {
        let never = !self.ledger.has_published();
        if failure.kind == FailureKind::Config && never {
            return self.give_up(failure, effects);
        }
        // Without a watch, ever, this strategy would show the first value and nothing else.
        if failure.kind == FailureKind::Permanent
            && self.settings.strategy == Strategy::Realtime
            && !self.watch.has_lived()
        {
            let message = format!("it cannot be watched (strategy realtime): {failure}");
            return self.give_up(Failure::new(FailureKind::Config, message), effects);
        }
        let pause = self.watch.lost(now, &failure, &self.settings, &mut self.random);
        if failure.kind.is_passing() {
            self.trouble.get_or_insert_with(|| failure.clone());
        }
        self.failed(Role::Watching, failure, pause, effects);
        // Polling takes over: the next fetch may be as far away as the reconciling one was.
        if self.settings.strategy == Strategy::Hybrid && !self.bugs.has(Bug::HybridDoesNotPoll) {
            let next = self.next_poll(now);
            self.fetch.no_later_than(next);
        }
    }

    /// Says that it has failed; and, if it has crashed, that nobody stands for the value now.
    fn failed(
        &mut self,
        role: Role,
        failure: Failure,
        Pause { retry_in, quarantined_after }: Pause,
        effects: &mut Vec<Effect<V>>,
    ) {
        let has_crashed = failure.kind == FailureKind::Crashed && !self.bugs.has(Bug::CrashHidden);
        let quarantine = match role {
            Role::Reading => self.fetch.quarantine(),
            Role::Watching => self.watch.quarantine(),
        };
        let reason = quarantine.unwrap_or(&failure).clone();
        effects.push(Effect::Report(match (quarantined_after, role) {
            (Some(crashes), _) => Report::Quarantined { role, failure, crashes, retry_in },
            (None, Role::Reading) => Report::FetchFailed { failure, retry_in },
            (None, Role::Watching) => Report::WatchLost { failure, retry_in },
        }));
        let is_news = quarantined_after.is_some() || !self.freshness.has_a_reason();
        if has_crashed && is_news && self.ledger.value().is_some() {
            self.is_stale(reason, effects);
        }
    }

    /// That something did not come, in time.
    pub(crate) fn too_late(&self, reason: impl AsRef<str>) -> Failure {
        let is_crash = self.settings.silence_is_crash && !self.bugs.has(Bug::GivenUpIsNoCrash);
        let transient = FailureKind::Transient { retry_after: None };
        Failure::new(if is_crash { FailureKind::Crashed } else { transient }, reason)
    }
}

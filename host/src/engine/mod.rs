//! When a source is read, when it is watched, and what of it is published.
//!
//! One machine serves the three strategies. It is pure: it reads no clock, does no I/O and knows
//! neither tokio nor WebAssembly. A driver calls [`Engine::start`] once, then [`Engine::step`] for
//! everything that happens and whenever [`Engine::deadline`] has passed, and carries out the
//! [`Effect`]s, in order.
//!
//! Three small machines work side by side:
//!
//! - `fetch`: `Due(at)` → `InFlight` → `Due(at)`; what reads the source.
//! - `watch`: `Off`; or `Waiting` for the first fetch, then `Down(retry_at)` → `Opening` → `Live` →
//!   `Down`; what listens.
//! - `ledger`: what was published, what is doubted, what is being judged or was refused.
//!
//! # The contract
//!
//! What a watcher of sources owes its users. Each point has a test in `contract` that names it, and
//! the simulation in `sim` checks all of them in faulty worlds.
//!
//! 1. **Latest wins, nothing final is lost.** Intermediate values may be merged into one; the last
//!    state of the source always arrives. A fetch follows every opening of a watch, so that no change
//!    falls between; a sign of change while a fetch is in flight means one more fetch; and a slow poll
//!    reconciles even while a watch is live.
//! 2. **A revision** for each source, which only goes up, also across a restart
//!    ([`Engine::resume`]).
//! 3. **At least once** across a restart, **never an older value after a newer one**. Every answer
//!    carries the number of the session that asked, and a late one is thrown away; what was in flight
//!    while the watch delivered a value does not undo it.
//! 4. **The cursor moves only after the value was accepted** ([`Effect::Offer`], [`Input::Judged`]). A
//!    refusal that may go away is tried again.
//! 5. **Compared is the last attempted value**, not the last good one: good, bad, the same good is
//!    published again.
//! 6. **Freshness is explicit**: [`Effect::Confirmed`] whenever the source stands for what is
//!    published, [`Effect::Stale`] with the reason and [`Effect::Fresh`].
//! 7. **A failure never clears a value.** Gone, or empty after it was not, is believed only when a read
//!    that is asked for a while later says the same, and later still after an outage or a restart.
//! 8. **Faults are isolated.** An engine knows one source, shares nothing, and goes on after any
//!    failure; only settings that can never work end it ([`Effect::GiveUp`]).
//! 9. **Every call has a deadline**: a fetch, the opening of a watch, the silence of a live one.
//! 10. **Overflow or doubt of any kind means: read again**, without the cursor, since a weak ETag
//!     must not hide a change that has been announced.

mod backoff;
#[cfg(test)]
mod bench;
mod bugs;
#[cfg(test)]
mod contract;
mod fetch;
mod ledger;
mod protocol;
mod settings;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod watch;

pub use protocol::{Effect, Input, Report, Session};
pub use settings::Settings;

use crate::model::{Event, Failure, FailureKind, Outcome, Revision, Snapshot, Strategy, Value};
use backoff::Random;
use bugs::{Bug, Bugs};
use fetch::Fetch;
use ledger::{Ledger, Said};
use std::time::{Duration, Instant};
use watch::Watch;

/// What has come while a fetch was in flight.
#[derive(Debug)]
struct Overtaking<V> {
    /// What was published before it came.
    before: Option<V>,
    newer: Option<V>,
}

/// The machine of one source.
#[derive(Debug)]
pub struct Engine<V = Snapshot> {
    settings: Settings,
    fetch: Fetch,
    watch: Watch,
    ledger: Ledger<V>,
    /// What has come while a fetch was in flight, which may answer what was so before.
    overtaking: Option<Overtaking<V>>,
    /// The last time that the source is known to have agreed with what is published.
    good_at: Instant,
    /// Why the source does not stand for what is published, if it is known not to.
    trouble: Option<Failure>,
    stale: bool,
    /// Whether the source has agreed since the start.
    has_agreed: bool,
    has_given_up: bool,
    sessions: u64,
    random: Random,
    bugs: Bugs,
}

impl<V: Value> Engine<V> {
    /// A machine that has not been started. `seed` makes its timers differ from other sources'.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        Self::with_bugs(settings, seed, now, Bugs::default())
    }

    fn with_bugs(mut settings: Settings, seed: u64, now: Instant, bugs: Bugs) -> Self {
        for (bug, limit) in [
            (Bug::NoDeadline, &mut settings.timeout),
            (Bug::SilenceTakenForPeace, &mut settings.liveness),
            (Bug::NoReconcile, &mut settings.reconcile),
        ] {
            if bugs.has(bug) {
                *limit = Duration::MAX;
            }
        }
        Self {
            fetch: Fetch::due(now, bugs),
            watch: Watch::new(settings.strategy, bugs),
            settings: settings.bounded(),
            ledger: Ledger::new(bugs),
            overtaking: None,
            good_at: now,
            trouble: None,
            stale: false,
            has_agreed: false,
            has_given_up: false,
            sessions: 0,
            random: Random::new(seed),
            bugs,
        }
    }

    /// Goes on from what was published before a restart, so that revisions go on from there too.
    #[must_use]
    pub fn resume(mut self, revision: Revision, value: Option<V>) -> Self {
        self.ledger.resume(revision, value);
        self
    }

    /// The first effects.
    pub fn start(&mut self, now: Instant) -> Vec<Effect<V>> {
        self.step(now, Input::Tick)
    }

    /// When [`step`](Self::step) wants to be called with [`Input::Tick`], if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.has_given_up {
            return None;
        }
        let fetch = Some(self.fetch.deadline());
        [fetch, self.watch.deadline(&self.settings), self.stale_at()].into_iter().flatten().min()
    }

    /// When the source is read next, as far as is known. `None` while it is being read.
    #[must_use]
    pub fn next_fetch(&self) -> Option<Instant> {
        self.fetch.next()
    }

    /// Takes what happened, and says what to do.
    pub fn step(&mut self, now: Instant, input: Input<V>) -> Vec<Effect<V>> {
        let mut effects = Vec::new();
        if self.has_given_up {
            return effects;
        }
        match input {
            Input::Tick => {}
            Input::Fetched(session, result) => {
                if let Some(in_flight) = self.fetch.answered(session) {
                    self.fetched(now, in_flight, result, &mut effects);
                }
            }
            Input::Armed(session) => {
                if self.watch.armed(session, now) {
                    effects.push(Effect::Report(Report::Watching));
                    if !self.bugs.has(Bug::NoFetchAfterArming) {
                        self.fetch.dirty(now);
                    }
                }
            }
            Input::Watched(session, event) => {
                if self.watch.saw_something(session, now) {
                    self.watched(now, event, &mut effects);
                }
            }
            Input::WatchLost(session, failure) => {
                if self.watch.is(session) {
                    self.watch_lost(now, failure, &mut effects);
                }
            }
            Input::Judged(session, verdict) => self.judged(now, session, verdict, &mut effects),
            Input::ReloadNow => self.fetch.insist(now),
        }
        if !self.has_given_up {
            self.overdue(now, &mut effects);
            self.act(now, &mut effects);
        }
        effects
    }

    /// Gives up what has taken too long.
    fn overdue(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        if let Some(session) = self.fetch.overdue(now) {
            effects.push(Effect::CancelFetch);
            let limit = self.settings.timeout;
            let failure = Failure::transient(format!("the source did not answer within {limit:?}"));
            if let Some(in_flight) = self.fetch.answered(session) {
                self.fetched(now, in_flight, Err(failure), effects);
            }
        }
        if let Some(reason) = self.watch.silence(now, &self.settings) {
            effects.push(Effect::CloseWatch);
            self.watch_lost(now, Failure::transient(reason), effects);
            self.fetch.dirty(now);
        }
    }

    /// Does what is due.
    fn act(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        let give_up_at = now + self.settings.timeout;
        if self.watch.is_due(now) {
            let session = self.next_session();
            self.watch.open(session, give_up_at);
            effects.push(Effect::OpenWatch(session, self.ledger.cursor()));
        }
        if let Some(announced) = self.fetch.take_due(now) {
            let session = self.next_session();
            self.fetch.begin(session, now, give_up_at);
            let whole = announced || self.ledger.believe_at().is_some();
            let whole = whole && !self.bugs.has(Bug::AnnouncedWithCursor);
            let known = if whole { None } else { self.ledger.cursor() };
            effects.push(Effect::Fetch(session, known));
        }
        if self.stale_at().is_some_and(|at| at <= now) {
            self.stale = true;
            effects.push(Effect::Stale(self.why_stale()));
        }
    }

    fn why_stale(&self) -> Failure {
        if self.ledger.believe_at().is_some() {
            return Failure::transient("the source says that there is nothing, which is doubted");
        }
        let silence = || Failure::transient("the source has not answered");
        self.trouble.clone().unwrap_or_else(silence)
    }

    fn fetched(
        &mut self,
        now: Instant,
        in_flight: fetch::Answered,
        result: Result<Outcome<V>, Failure>,
        effects: &mut Vec<Effect<V>>,
    ) {
        self.watch.source_was_read(now);
        let overtaking = self.overtaking.take();
        match result {
            Ok(outcome) => {
                let mut again = in_flight.dirty;
                let mut in_full = false;
                match overtaking {
                    None if in_flight.outdated && matches!(outcome, Outcome::Unchanged) => {
                        again = true;
                    }
                    None => self.answered(now, outcome, in_flight.asked_at, effects),
                    Some(Overtaking { newer, .. }) if says(&outcome, newer.as_ref()) => {}
                    // The older one, unless the source has gone back to it; then the watch says so,
                    // or, should it fail to, the next poll finds out.
                    Some(Overtaking { before, .. }) if is_before(&outcome, before.as_ref()) => {
                        in_full = true;
                    }
                    // It may be older, or newer: that is asked for again.
                    Some(_) => again |= !self.bugs.has(Bug::OvertakenForgotten),
                }
                self.fetch.succeeded(again);
                let next = if again { now } else { self.next_poll(now) };
                self.fetch.schedule(next, again || in_full);
            }
            Err(failure) => {
                if failure.kind == FailureKind::Config && !self.ledger.has_published() {
                    return self.give_up(failure, effects);
                }
                let Settings { interval, .. } = self.settings;
                let retry_in =
                    self.fetch.failed(now, &failure, in_flight.dirty, interval, &mut self.random);
                self.fetch.schedule(now + retry_in, true);
                if self.bugs.has(Bug::FailureEndsPolling) {
                    self.fetch.schedule(now + Duration::from_secs(1 << 30), true);
                }
                self.trouble = Some(failure.clone());
                // What was doubted before an outage has to be said anew after it.
                if !self.bugs.has(Bug::DoubtOutlivesOutage) {
                    self.ledger.forget_doubt();
                }
                effects.push(Effect::Report(Report::FetchFailed { failure, retry_in }));
                if self.bugs.has(Bug::FailureRemoves) {
                    self.said(now, None, None, Duration::ZERO, effects);
                }
            }
        }
    }

    fn answered(
        &mut self,
        now: Instant,
        outcome: Outcome<V>,
        asked_at: Instant,
        effects: &mut Vec<Effect<V>>,
    ) {
        let asked_at = Some(asked_at);
        let wait = self.doubt_for();
        match outcome {
            Outcome::Unchanged => {
                let said = self.ledger.unchanged(now, self.settings.force_reload);
                self.follows(now, said, effects);
            }
            Outcome::Changed(value) => self.said(now, Some(value), asked_at, wait, effects),
            Outcome::Absent => self.said(now, None, asked_at, wait, effects),
        }
    }

    fn watched(&mut self, now: Instant, event: Event<V>, effects: &mut Vec<Effect<V>>) {
        let wait = self.doubt_for();
        let said = match event {
            Event::Alive => {
                // Being connected says that the published value is current only if reading works,
                // and nothing is left to be told.
                let doubtful = self.trouble.is_some()
                    || self.fetch.is_untold()
                    || self.ledger.believe_at().is_some()
                    || self.ledger.is_pending();
                if !doubtful || self.bugs.has(Bug::AliveHidesTrouble) {
                    self.good(now, effects);
                }
                return;
            }
            Event::Dirty => return self.fetch.dirty(now),
            Event::Changed(value) => Some(value),
            Event::Removed => None,
        };
        self.fetch.told();
        self.overtake(said.as_ref());
        self.said(now, said, None, wait, effects);
    }

    /// What is in flight may be older than this, or an answer about what was published before.
    fn overtake(&mut self, newer: Option<&V>) {
        if self.fetch.next().is_none() && !self.bugs.has(Bug::OvertakenPublished) {
            let before = match self.overtaking.take() {
                Some(overtaking) => overtaking.before,
                None => self.ledger.value().cloned(),
            };
            self.overtaking = Some(Overtaking { before, newer: newer.cloned() });
        }
    }

    /// How long "there is nothing" is doubted now. A source that was just restarted may say so before
    /// it has loaded its data; and where this host was, the source may have been too.
    fn doubt_for(&self) -> Duration {
        let started = !self.has_agreed && !self.bugs.has(Bug::RestartIsNoOutage);
        if started || self.trouble.is_some() {
            self.settings.confirm_after_trouble
        } else {
            self.settings.confirm
        }
    }

    /// The source has said what its value is: `None` is that there is none.
    fn said(
        &mut self,
        now: Instant,
        said: Option<V>,
        asked_at: Option<Instant>,
        wait: Duration,
        effects: &mut Vec<Effect<V>>,
    ) {
        let said = self.ledger.said(now, said, asked_at, wait, self.settings.force_reload);
        self.follows(now, said, effects);
    }

    fn follows(&mut self, now: Instant, said: Said<V>, effects: &mut Vec<Effect<V>>) {
        match said {
            Said::Same => self.good(now, effects),
            Said::Pending => {}
            Said::Offer(value) => {
                let session = self.next_session();
                self.ledger.offer(session, value.clone());
                effects.push(Effect::Offer(session, value));
            }
            Said::Doubted { believe_at, new } => {
                self.fetch.no_later_than(believe_at);
                if new {
                    let ask_again_in = believe_at.saturating_duration_since(now);
                    effects.push(Effect::Report(Report::Doubt { ask_again_in }));
                }
            }
            Said::Removed(revision) => {
                effects.push(Effect::PublishRemoved(revision));
                self.good(now, effects);
            }
            Said::NothingYet => {
                effects.push(Effect::Report(Report::NothingYet));
                self.good(now, effects);
            }
        }
    }

    fn judged(
        &mut self,
        now: Instant,
        session: Session,
        verdict: Result<(), Failure>,
        effects: &mut Vec<Effect<V>>,
    ) {
        match verdict {
            Ok(()) => {
                if let Some((revision, value)) = self.ledger.accepted(session) {
                    self.fetch.outdated();
                    effects.push(Effect::Publish(revision, value));
                    self.good(now, effects);
                }
            }
            Err(failure) => {
                let Self { settings, random, .. } = self;
                let Some(again_at) = self.ledger.refused(now, session, &failure, settings, random)
                else {
                    return;
                };
                if let Some(at) = again_at {
                    self.fetch.no_later_than(at);
                }
                self.trouble = Some(failure.clone());
                let retry_in = again_at.map(|at| at.saturating_duration_since(now));
                effects.push(Effect::Report(Report::Refused { failure, retry_in }));
            }
        }
    }

    /// The source agrees with what is published.
    fn good(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        self.good_at = now;
        self.has_agreed = true;
        effects.push(Effect::Confirmed);
        if self.trouble.take().is_some() {
            effects.push(Effect::Report(Report::Recovered));
        }
        if std::mem::take(&mut self.stale) {
            effects.push(Effect::Fresh);
        }
    }

    fn watch_lost(&mut self, now: Instant, failure: Failure, effects: &mut Vec<Effect<V>>) {
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
        let Settings { strategy, interval, .. } = self.settings;
        let retry_in = self.watch.lost(now, &failure, interval, &mut self.random);
        if matches!(failure.kind, FailureKind::Transient { .. }) {
            self.trouble.get_or_insert_with(|| failure.clone());
        }
        effects.push(Effect::Report(Report::WatchLost { failure, retry_in }));
        // Polling takes over: the next fetch may be as far away as the reconciling one was.
        if strategy == Strategy::Hybrid && !self.bugs.has(Bug::HybridDoesNotPoll) {
            let next = self.next_poll(now);
            self.fetch.no_later_than(next);
        }
    }

    fn give_up(&mut self, failure: Failure, effects: &mut Vec<Effect<V>>) {
        self.has_given_up = true;
        effects.push(Effect::GiveUp(failure));
    }

    /// When the source is read next if nothing happens.
    fn next_poll(&mut self, now: Instant) -> Instant {
        let Settings { strategy, interval, reconcile, .. } = self.settings;
        let period = match (strategy, self.watch.is_live()) {
            (Strategy::Polling, _) => interval,
            (Strategy::Hybrid, false) if !self.bugs.has(Bug::HybridDoesNotPoll) => interval,
            (Strategy::Realtime, _) | (Strategy::Hybrid, _) => reconcile,
        };
        let next = now + self.fetch.spread(period, &mut self.random);
        let sooner = self.ledger.believe_at().or(self.ledger.again_at());
        sooner.map_or(next, |at| at.max(now).min(next))
    }

    fn stale_at(&self) -> Option<Instant> {
        if self.stale || self.ledger.value().is_none() || self.bugs.has(Bug::NeverStale) {
            return None;
        }
        let Settings { stale_after, liveness, reconcile, .. } = self.settings;
        // A watch that is live speaks for the value as often as its liveness limit wants it to, or,
        // if it need not, as often as the source is read all the same.
        let promise = if self.watch.is_live() && self.trouble.is_none() {
            stale_after.max(liveness.min(reconcile) * 2)
        } else {
            stale_after
        };
        Some(self.good_at + promise)
    }

    fn next_session(&mut self) -> Session {
        self.sessions += 1;
        Session(self.sessions)
    }
}

/// Whether an answer says no more than what is known already.
fn says<V: Value>(outcome: &Outcome<V>, value: Option<&V>) -> bool {
    match outcome {
        // It is about a cursor that is not the published value's any more.
        Outcome::Unchanged => false,
        Outcome::Changed(said) => value.is_some_and(|value| value.same_value(said)),
        Outcome::Absent => value.is_none(),
    }
}

/// Whether an answer is what was published before the watch delivered its own.
fn is_before<V: Value>(outcome: &Outcome<V>, before: Option<&V>) -> bool {
    matches!(outcome, Outcome::Unchanged) || says(outcome, before)
}

//! What the source says, and what follows from it.

use super::{Effect, Engine, Report, Session};
use crate::types::{Event, Failure, Outcome, Value};
use crate::{fetch, mutations::Bug, value_state::Said};
use std::time::{Duration, Instant};

/// What has come while a fetch was in flight.
#[derive(Debug)]
pub(crate) struct Overtaking<V> {
    /// What was published before it came.
    before: Option<V>,
    newer: Option<V>,
}

impl<V: Value> Engine<V> {
    pub(crate) fn fetched(
        &mut self,
        now: Instant,
        in_flight: fetch::Answered,
        result: Result<Outcome<V>, Failure>,
        effects: &mut Vec<Effect<V>>,
    ) {
        self.watch.source_was_read(now);
        let overtaking = self.overtaking.take().map(|overtaking| *overtaking);
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
            Err(failure) => self.fetch_failed(now, in_flight.dirty, failure, effects),
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

    pub(crate) fn watched(&mut self, now: Instant, event: Event<V>, effects: &mut Vec<Effect<V>>) {
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
            self.overtaking = Some(Box::new(Overtaking { before, newer: newer.cloned() }));
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
    pub(crate) fn said(
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
            Said::HeldBack { new } => {
                if new {
                    effects.push(Effect::Report(Report::HeldBack));
                }
                self.good(now, effects);
            }
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

    pub(crate) fn judged(
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

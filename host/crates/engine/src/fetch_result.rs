//! Handling of fetch results, watch events and validation results.

use super::{Effect, Engine, Report, Session};
use crate::types::{Event, Failure, Outcome, Value};
use crate::{fetch, mutations::Mutation, value_state::Decision};
use std::time::{Duration, Instant};

/// Value that the watch reported while a fetch was in flight.
#[derive(Debug)]
pub(crate) struct ConcurrentUpdate<V> {
    /// Published value before the watch event.
    published_before: Option<V>,
    /// Value of the watch event; `None` if the source has no value any more.
    reported: Option<V>,
}

impl<V: Value> Engine<V> {
    /// Handles the result of a fetch and schedules the next one.
    pub(crate) fn on_fetched(
        &mut self,
        now: Instant,
        context: fetch::FetchContext,
        result: Result<Outcome<V>, Failure>,
        effects: &mut Vec<Effect<V>>,
    ) {
        self.watch.on_fetch_completed(now);
        let concurrent_update = self.concurrent_update.take().map(|update| *update);
        match result {
            Ok(outcome) => {
                let mut refetch = context.dirty;
                let mut unconditional = false;
                match concurrent_update {
                    None if context.cursor_outdated && matches!(outcome, Outcome::Unchanged) => {
                        refetch = true;
                    }
                    None => self.apply_outcome(now, outcome, context.started_at, effects),
                    Some(ConcurrentUpdate { reported, .. })
                        if reports_value(&outcome, reported.as_ref()) => {}
                    // The fetch result probably predates the watch event. If the source has changed
                    // back instead, the watch or the next poll reports that.
                    Some(ConcurrentUpdate { published_before, .. })
                        if is_value_before_update(&outcome, published_before.as_ref()) =>
                    {
                        unconditional = true;
                    }
                    // The fetch result may be older or newer than the watch event: only a refetch
                    // can tell.
                    Some(_) => {
                        refetch |= !self.mutations.has(Mutation::AmbiguousFetchResultDropped)
                    }
                }
                self.fetch.on_succeeded(refetch);
                let next = if refetch { now } else { self.next_poll(now) };
                self.fetch.schedule(next, refetch || unconditional);
            }
            Err(failure) => self.on_fetch_failed(now, context.dirty, failure, effects),
        }
    }

    /// Handles an outcome that no watch event overlaps.
    fn apply_outcome(
        &mut self,
        now: Instant,
        outcome: Outcome<V>,
        fetch_started_at: Instant,
        effects: &mut Vec<Effect<V>>,
    ) {
        let fetch_started_at = Some(fetch_started_at);
        let confirm_delay = self.removal_confirm_delay();
        match outcome {
            Outcome::Unchanged => {
                let decision = self.value_state.unchanged(now, self.settings.force_reload);
                self.apply_decision(now, decision, effects);
            }
            Outcome::Changed(value) => {
                self.on_reported(now, Some(value), fetch_started_at, confirm_delay, effects)
            }
            Outcome::Absent => {
                self.on_reported(now, None, fetch_started_at, confirm_delay, effects)
            }
        }
    }

    /// Handles an event of the live watch.
    pub(crate) fn on_watch_event(
        &mut self,
        now: Instant,
        event: Event<V>,
        effects: &mut Vec<Effect<V>>,
    ) {
        let confirm_delay = self.removal_confirm_delay();
        let reported = match event {
            Event::Alive => {
                // A live connection confirms the published value only if fetching works and no
                // change is outstanding.
                let uncertain = self.active_failure.is_some()
                    || self.fetch.has_unreported_change()
                    || self.value_state.removal_confirm_at().is_some()
                    || self.value_state.is_pending();
                if !uncertain || self.mutations.has(Mutation::AliveHidesFailure) {
                    self.mark_confirmed(now, effects);
                }
                return;
            }
            Event::Dirty => return self.fetch.mark_dirty(now),
            Event::Changed(value) => Some(value),
            Event::Removed => None,
        };
        self.fetch.change_reported();
        self.record_concurrent_update(reported.as_ref());
        self.on_reported(now, reported, None, confirm_delay, effects);
    }

    /// Records a value from the watch during a fetch. The fetch result may be older, or may refer
    /// to the value published before.
    fn record_concurrent_update(&mut self, reported: Option<&V>) {
        if self.fetch.next().is_none() && !self.mutations.has(Mutation::OlderFetchResultPublished) {
            let published_before = match self.concurrent_update.take() {
                Some(concurrent_update) => concurrent_update.published_before,
                None => self.value_state.value().cloned(),
            };
            self.concurrent_update =
                Some(Box::new(ConcurrentUpdate { published_before, reported: reported.cloned() }));
        }
    }

    /// Returns the delay before a removal is confirmed. It is longer after a start and after a
    /// failure, because a restarted source may report no value before it has loaded its data.
    fn removal_confirm_delay(&self) -> Duration {
        let started =
            !self.has_confirmed && !self.mutations.has(Mutation::ShortConfirmationAfterRestart);
        if started || self.active_failure.is_some() {
            self.settings.confirm_after_trouble
        } else {
            self.settings.confirm
        }
    }

    /// Handles a value that the source reports. `None` means that the source has no value.
    pub(crate) fn on_reported(
        &mut self,
        now: Instant,
        reported: Option<V>,
        fetch_started_at: Option<Instant>,
        confirm_delay: Duration,
        effects: &mut Vec<Effect<V>>,
    ) {
        let force = self.settings.force_reload;
        let decision =
            self.value_state.assess(now, reported, fetch_started_at, confirm_delay, force);
        self.apply_decision(now, decision, effects);
    }

    /// Produces the effects of a decision.
    fn apply_decision(
        &mut self,
        now: Instant,
        decision: Decision<V>,
        effects: &mut Vec<Effect<V>>,
    ) {
        match decision {
            Decision::Current => self.mark_confirmed(now, effects),
            Decision::Pending => {}
            Decision::HeldBack { first } => {
                if first {
                    effects.push(Effect::Report(Report::HeldBack));
                }
                self.mark_confirmed(now, effects);
            }
            Decision::Validate(value) => {
                let session = self.next_session();
                self.value_state.start_validation(session, value.clone());
                effects.push(Effect::Offer(session, value));
            }
            Decision::ConfirmRemoval { confirm_at, first } => {
                self.fetch.schedule_no_later_than(confirm_at);
                if first {
                    let ask_again_in = confirm_at.saturating_duration_since(now);
                    effects.push(Effect::Report(Report::Doubt { ask_again_in }));
                }
            }
            Decision::Removed(revision) => {
                effects.push(Effect::PublishRemoved(revision));
                self.mark_confirmed(now, effects);
            }
            Decision::NothingYet => {
                effects.push(Effect::Report(Report::NothingYet));
                self.mark_confirmed(now, effects);
            }
        }
    }

    /// Handles the result of a validation.
    pub(crate) fn on_judged(
        &mut self,
        now: Instant,
        session: Session,
        result: Result<(), Failure>,
        effects: &mut Vec<Effect<V>>,
    ) {
        match result {
            Ok(()) => {
                if let Some((revision, value)) = self.value_state.accept(session) {
                    self.fetch.mark_cursor_outdated();
                    effects.push(Effect::Publish(revision, value));
                    self.mark_confirmed(now, effects);
                }
            }
            Err(failure) => {
                let Self { settings, rng, .. } = self;
                let Some(retry_at) = self.value_state.reject(now, session, &failure, settings, rng)
                else {
                    return;
                };
                if let Some(at) = retry_at {
                    self.fetch.schedule_no_later_than(at);
                }
                self.active_failure = Some(failure.clone());
                let retry_in = retry_at.map(|at| at.saturating_duration_since(now));
                effects.push(Effect::Report(Report::Refused { failure, retry_in }));
            }
        }
    }
}

/// Returns whether a fetch result equals `value`.
fn reports_value<V: Value>(outcome: &Outcome<V>, value: Option<&V>) -> bool {
    match outcome {
        // `Unchanged` refers to the cursor of an older value.
        Outcome::Unchanged => false,
        Outcome::Changed(reported) => value.is_some_and(|value| value.same_value(reported)),
        Outcome::Absent => value.is_none(),
    }
}

/// Returns whether a fetch result equals the value published before the watch event.
fn is_value_before_update<V: Value>(outcome: &Outcome<V>, published_before: Option<&V>) -> bool {
    matches!(outcome, Outcome::Unchanged) || reports_value(outcome, published_before)
}

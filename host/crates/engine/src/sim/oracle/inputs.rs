//! Oracle, input side: records each input of the engine, and the reactions that it requires.

use super::expected_state::{Cause, Oracle, PendingRemoval, Step, WatchState};
use crate::{
    Input, Session, Settings,
    sim::{
        faulty_environment::{Environment, Provenance},
        source::{Content, SimValue},
    },
    types::{Event, Failure, Outcome},
};
use std::time::{Duration, Instant};

/// Minimum uptime after which an event proves that a watch works.
const MIN_STABLE_UPTIME: Duration = Duration::from_secs(5);

impl Oracle {
    /// Records an input before the engine handles it.
    pub(in crate::sim) fn input(
        &mut self,
        now: Instant,
        input: &Input<SimValue>,
        provenance: Provenance,
        environment: &Environment,
    ) -> Step {
        self.validation_due = None;
        self.quarantine_started = false;
        self.steps += 1;
        let cause = match input {
            Input::Tick => Cause::Other,
            Input::Pin(sim_value) => self.pin(sim_value),
            Input::Unpin => {
                self.unpin(now);
                Cause::Other
            }
            // A simulation never replaces its source. `tests/contract` tests the replacement.
            Input::Replaced(_) => Cause::Other,
            Input::ReloadNow => {
                self.not_before = None;
                self.lift_quarantines(now);
                self.mark_dirty(now);
                Cause::Other
            }
            Input::Fetched(session, result) => {
                self.fetched(now, *session, result, provenance, environment)
            }
            Input::Armed(session) => match self.watch_state {
                WatchState::Opening { session: current, .. } if current == *session => {
                    self.watch_state =
                        WatchState::Live { session: *session, since: now, last_event_at: now };
                    self.was_armed = true;
                    self.mark_dirty(now);
                    Cause::Other
                }
                _ => Cause::Late,
            },
            Input::Watched(session, event) => self.watched(now, *session, event, provenance),
            Input::WatchLost(session, failure) => match self.watch_state {
                WatchState::Opening { session: current, .. }
                | WatchState::Live { session: current, .. }
                    if current == *session =>
                {
                    self.watch_lost(now, failure);
                    Cause::Other
                }
                _ => Cause::Late,
            },
            Input::Validated(session, result) => {
                match self.validating.take_if(|(current, _)| current == session) {
                    Some(_) if result.is_ok() => {
                        self.rejected = None;
                        self.outage = false;
                        if let Some(fetch) = &mut self.in_flight {
                            fetch.cursor_outdated = true;
                        }
                        Cause::Accepted
                    }
                    Some((_, sim_value)) => {
                        self.fetch_budget += 2;
                        self.rejected = Some(sim_value.content);
                        Cause::Other
                    }
                    None => Cause::Late,
                }
            }
        };
        Step { cause }
    }

    fn fetched(
        &mut self,
        now: Instant,
        session: Session,
        result: &Result<Outcome<SimValue>, Failure>,
        provenance: Provenance,
        environment: &Environment,
    ) -> Cause {
        let Some(fetch) = self.in_flight.take_if(|fetch| fetch.session == session) else {
            return Cause::Late;
        };
        self.mark_fetched_once(now);
        let outcome = match result {
            Err(failure) => {
                self.fetch_failed(failure.clone());
                return Cause::Other;
            }
            Ok(outcome) => outcome,
        };
        self.retry_at = None;
        self.last_failure = None;
        self.fetch_crashes.reset();
        if self.dirty_since_step.is_some_and(|step| step <= fetch.step) {
            self.dirty_since_step = None;
            self.unreported_change = false;
        }
        let content = match outcome {
            Outcome::Unchanged => self.content(),
            Outcome::Absent => None,
            Outcome::Changed(sim_value) => {
                self.record_cursor(sim_value);
                Some(sim_value.content)
            }
        };
        self.newest_reported_state = self.newest_reported_state.max(provenance.state);
        let unchanged = matches!(outcome, Outcome::Unchanged);
        let known = !unchanged && self.last_reported == Some(content);
        if fetch.has_concurrent_update && !known && (unchanged || content == fetch.published_before)
        {
            // The result predates the watch event, or the source has changed back to the earlier
            // value: the next poll has to be unconditional.
            self.unconditional_due = true;
        } else if fetch.has_concurrent_update && !known || fetch.cursor_outdated && unchanged {
            // The order of the result and the watch event is unknown: a refetch is required.
            self.dirty_since_step = Some(self.steps);
        }
        if fetch.has_concurrent_update {
            self.fetch_budget += 2;
            return Cause::Concurrent { content, reported_at: provenance.reported_at };
        }
        if fetch.cursor_outdated && unchanged {
            return Cause::Other;
        }
        // While a value is pinned, `Unchanged` refers to the value that the pin holds back.
        if !(unchanged && self.pinned.is_some()) {
            self.on_reported(now, content);
        }
        match outcome {
            Outcome::Unchanged => {
                Cause::Unchanged { actual: environment.content(provenance.state) }
            }
            Outcome::Absent | Outcome::Changed(_) => {
                Cause::Reported { content, reported_at: provenance.reported_at }
            }
        }
    }

    fn watched(
        &mut self,
        now: Instant,
        session: Session,
        event: &Event<SimValue>,
        provenance: Provenance,
    ) -> Cause {
        match &mut self.watch_state {
            WatchState::Live { session: current, since, last_event_at } if *current == session => {
                *last_event_at = now;
                if now.saturating_duration_since(*since) >= MIN_STABLE_UPTIME {
                    self.watch_crashes.reset();
                }
            }
            _ => return Cause::Late,
        }
        let content = match event {
            Event::Alive => return Cause::Alive { state: provenance.state },
            Event::Dirty => {
                self.newest_reported_state = self.newest_reported_state.max(provenance.state);
                self.mark_dirty(now);
                return Cause::Other;
            }
            Event::Changed(sim_value) => {
                self.record_cursor(sim_value);
                Some(sim_value.content)
            }
            Event::Removed => None,
        };
        if provenance.state < self.newest_reported_state {
            self.order_broken = true;
            self.order_broken_at = Some(now);
        }
        self.newest_reported_state = self.newest_reported_state.max(provenance.state);
        let published = self.content();
        if let Some(fetch) = &mut self.in_flight
            && !std::mem::replace(&mut fetch.has_concurrent_update, true)
        {
            fetch.published_before = published;
        }
        self.fetch_budget += 2;
        self.unreported_change = false;
        self.on_reported(now, content);
        Cause::Reported { content, reported_at: provenance.reported_at }
    }

    /// Records a value that the source reports, and whether it has to be validated, or confirmed by a second read.
    fn on_reported(&mut self, now: Instant, content: Option<Content>) {
        self.last_reported = Some(content);
        if self.pinned.is_some() {
            return;
        }
        let no_content = content.is_none_or(|content| content == 0);
        if !no_content {
            self.pending_removal = None;
            self.outage = false;
        } else if self.pending_removal.is_none() {
            let Settings { confirm, confirm_after_outage, .. } = self.settings;
            let confirm_delay = if self.outage { confirm_after_outage } else { confirm };
            self.pending_removal = Some(PendingRemoval { since: now, confirm_delay });
            self.fetch_budget += 3;
        }
        if no_content && self.has_content() {
            // The value in validation is no longer the value of the source.
            if self
                .validating
                .take_if(|(_, sim_value)| Some(sim_value.content) != content)
                .is_some()
            {
                self.last_attempt = self.rejected.or(self.content());
            }
            return;
        }
        let in_validation = self.validating.as_ref().map(|(_, sim_value)| sim_value.content);
        match content {
            Some(content) if in_validation == Some(content) => {}
            // The source changed back to the rejected value while another one was in validation.
            Some(content) if self.rejected == Some(content) => {
                self.validating = None;
                self.last_attempt = Some(content);
            }
            Some(content) if self.last_attempt != Some(content) => {
                self.validation_due = Some(content);
            }
            Some(_) => {}
            None => {
                self.last_attempt = None;
                self.validating = None;
                self.rejected = None;
            }
        }
    }

    fn record_cursor(&mut self, sim_value: &SimValue) {
        if self.pinned.is_some() {
            self.held_back_cursors.extend(sim_value.cursor.clone());
        }
        if self.content() == Some(sim_value.content) {
            self.cursors.extend(sim_value.cursor.clone());
        }
    }
}

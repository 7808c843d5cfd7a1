//! Oracle, output side: checks each effect of the engine.

use super::{
    crash_quarantines::retry_after,
    expected_state::{Cause, FetchInFlight, Oracle, Step, WatchState},
};
use crate::{
    Effect, Report, Role, Session, UNCONFIRMED,
    sim::{
        faulty_environment::Environment,
        source::{Content, CursorKind, SimValue},
    },
    types::{Cursor, Failure, FailureKind, Revision, Strategy},
};
use std::time::{Duration, Instant};

impl Oracle {
    /// Checks whether an effect of the engine is allowed, and updates the expected state.
    pub(in crate::sim) fn effect(
        &mut self,
        now: Instant,
        step: &mut Step,
        effect: &Effect<SimValue>,
        environment: &Environment,
    ) {
        let late = step.cause == Cause::Late;
        match effect {
            Effect::Fetch(session, cursor) => self.fetch(now, *session, cursor.as_ref()),
            Effect::CancelFetch => {
                let overdue = self
                    .in_flight
                    .take()
                    .is_some_and(|fetch| fetch.started_at + self.settings.timeout <= now);
                self.check(overdue, 9, "fetch cancelled before its deadline");
                self.mark_fetched_once(now);
                self.fetch_failed(self.timeout_failure());
                step.cause = Cause::Other;
            }
            Effect::OpenWatch(session, cursor) => self.open(now, *session, cursor.as_ref()),
            Effect::CloseWatch => {
                let overdue = self.watch_overdue(now);
                self.check(overdue, 9, "watch closed before its deadline");
                self.watch_lost(now, &self.timeout_failure());
                self.mark_dirty(now);
            }
            Effect::Validate(session, sim_value) => {
                self.check(!late, 3, "late answer accepted");
                self.check_not_pinned();
                self.offer(*session, sim_value, step.cause);
            }
            Effect::Publish(revision, sim_value) if step.cause == Cause::Pinned => {
                self.pinned(*revision, sim_value);
            }
            Effect::Publish(revision, sim_value) => {
                self.check_not_pinned();
                self.check(step.cause == Cause::Accepted, 4, "published without acceptance");
                self.check(*revision > self.revision, 2, "revision not increased");
                let newer = sim_value.state >= self.newest_state
                    || self.pinned_state == Some(sim_value.state);
                self.check(
                    self.order_broken || newer,
                    3,
                    "older value published after a newer one",
                );
                self.newest_state = self.newest_state.max(sim_value.state);
                self.revision = *revision;
                let cursors = sim_value.cursor.iter().cloned().collect();
                self.previous_cursors = std::mem::replace(&mut self.cursors, cursors);
                self.published = Some(sim_value.clone());
                self.pending_removal.take_if(|_| sim_value.content == 0);
            }
            Effect::PublishRemoved(revision) => {
                self.check(!late, 3, "late answer accepted");
                self.check_not_pinned();
                self.check(*revision > self.revision, 2, "revision not increased");
                self.check_removal(step.cause, None);
                self.revision = *revision;
                self.published = None;
                self.last_attempt = None;
                self.validating = None;
                self.rejected = None;
                self.pending_removal = None;
                self.cursors.clear();
            }
            Effect::Confirmed => {
                self.check_confirmed(step.cause, environment);
                self.confirmed_at = now;
                self.crashed = false;
                self.failing = false;
                self.last_failure = None;
                self.unconfirmed = false;
            }
            Effect::Stale(failure) if &*failure.message == UNCONFIRMED => {
                self.check(
                    self.unconfirmed && !self.stale,
                    6,
                    "not resumed, but reported as unconfirmed",
                );
                self.stale = true;
            }
            Effect::Stale(failure) => {
                let reason_replaced = std::mem::take(&mut self.unconfirmed) && self.stale;
                let due = self.confirmed_at + self.settings.stale_after <= now || self.crashed;
                let pinned = step.cause == Cause::Pinned;
                self.check(due || reason_replaced || pinned, 6, "reported as stale without reason");
                self.check(
                    !self.stale || self.quarantine_started || reason_replaced,
                    6,
                    "reported as stale twice",
                );
                self.check_reason_names_quarantine(now, failure);
                self.check(self.published.is_some(), 6, "stale without a value");
                let is_silence = &*failure.message == "the source has not answered";
                let unconfirmed_removal = self
                    .pending_removal
                    .as_ref()
                    .is_some_and(|removal| !removal.confirm_delay.is_zero())
                    && self.has_content()
                    && self.validating.is_none();
                let answered = self.last_failure.is_some() || unconfirmed_removal;
                self.check(
                    !(is_silence && answered),
                    6,
                    "stale because of silence, although the source answered",
                );
                self.stale = true;
            }
            Effect::Fresh => {
                self.check(self.stale, 6, "reported as fresh without being stale");
                self.stale = false;
            }
            Effect::Report(report) => self.report(now, report),
            Effect::GiveUp(failure) => {
                let never = self.revision == Revision::default();
                let unwatched = self.settings.strategy == Strategy::Realtime && !self.was_armed;
                let legitimate = failure.kind == FailureKind::Config && (never || unwatched);
                self.check(legitimate, 8, "gave up without a permanent failure");
                self.gave_up = true;
            }
        }
    }

    fn fetch(&mut self, now: Instant, session: Session, cursor: Option<&Cursor>) {
        self.fetches += 1;
        self.check(self.in_flight.is_none(), 9, "two concurrent fetches");
        let due = self.not_before.is_none_or(|at| at <= now);
        self.check(due, 9, "fetch before the end of a retry-after or a crash backoff");
        self.fetch_crashes.until = None;
        self.check(
            cursor.is_none() || self.dirty_since_step.is_none() && !self.unconditional_due,
            10,
            "conditional fetch after a change notification",
        );
        self.check_cursor(cursor);
        self.not_before = None;
        self.retry_at = None;
        self.unconditional_due = false;
        self.in_flight = Some(FetchInFlight {
            session,
            started_at: now,
            step: self.steps,
            has_concurrent_update: false,
            published_before: None,
            cursor_outdated: false,
        });
    }

    fn open(&mut self, now: Instant, session: Session, cursor: Option<&Cursor>) {
        match self.watch_state {
            WatchState::Down { not_before, .. } => {
                let due = not_before <= now;
                self.check(due, 9, "watch before the end of a retry-after or a crash backoff");
            }
            WatchState::Opening { .. } | WatchState::Live { .. } => {
                self.record_violation(9, "two concurrent watches");
            }
        }
        self.check_cursor(cursor);
        self.watch_crashes.until = None;
        self.watch_state = WatchState::Opening { session, since: now };
    }

    fn check_cursor(&mut self, cursor: Option<&Cursor>) {
        let accepted = cursor.is_none_or(|cursor| {
            self.cursors.contains(cursor)
                || self.previous_cursors.contains(cursor)
                || self.is_held_back(cursor)
        });
        self.check(accepted, 4, "cursor of a value that is not accepted");
    }

    fn offer(&mut self, session: Session, sim_value: &SimValue, cause: Cause) {
        let published = self.content();
        let reported = match cause {
            Cause::Reported { content, .. } | Cause::Concurrent { content, .. } => content,
            Cause::Unchanged { .. } => published,
            Cause::Late | Cause::Other | Cause::Alive { .. } | Cause::Accepted | Cause::Pinned => {
                None
            }
        };
        self.check(
            reported == Some(sim_value.content),
            3,
            "validation of a value that the source did not report",
        );
        let repeated = self.last_attempt == Some(sim_value.content)
            && published == Some(sim_value.content)
            && self.rejected.is_none()
            && !self.settings.force_reload;
        self.check(!repeated, 5, "repeated validation of an unchanged value");
        if sim_value.content == 0 {
            self.check_removal(cause, Some(0));
        }
        self.validation_due.take_if(|due| *due == sim_value.content);
        self.last_attempt = Some(sim_value.content);
        self.validating = Some((session, sim_value.clone()));
    }

    /// Checks that the removal of a non-empty value is confirmed.
    fn check_removal(&mut self, cause: Cause, content: Option<Content>) {
        if !self.has_content() {
            return;
        }
        let reported_at = match cause {
            Cause::Reported { content: reported, reported_at }
            | Cause::Concurrent { content: reported, reported_at }
                if reported == content =>
            {
                Some(reported_at)
            }
            _ => None,
        };
        let confirmed = self.pending_removal.as_ref().is_some_and(|removal| {
            let confirm_at = removal.since + removal.confirm_delay;
            removal.confirm_delay.is_zero() || reported_at.is_some_and(|at| at >= confirm_at)
        });
        self.check(confirmed, 7, "value removed without confirmation");
    }

    fn check_confirmed(&mut self, cause: Cause, environment: &Environment) {
        let published = self.content();
        let justified = match cause {
            Cause::Accepted => true,
            Cause::Reported { .. } | Cause::Concurrent { .. } | Cause::Unchanged { .. }
                if self.pinned.is_some() =>
            {
                true
            }
            Cause::Alive { .. } if self.pinned.is_some() => {
                !self.failing && !self.unreported_change
            }
            Cause::Reported { content, .. } | Cause::Concurrent { content, .. } => {
                content == published
            }
            Cause::Unchanged { actual } => actual == published || self.is_weak(environment),
            Cause::Alive { state } => {
                let read = !self.failing && !self.unreported_change && self.rejected.is_none();
                let complete = environment.has_complete_watch() && !self.order_broken;
                let is_actual = environment.content(state) == published;
                read && self.last_reported == Some(published) && (!complete || is_actual)
            }
            Cause::Late | Cause::Other | Cause::Pinned => false,
        };
        self.check(justified, 6, "confirmed without reason");
    }

    fn is_weak(&self, environment: &Environment) -> bool {
        environment.source.cursor_kind == CursorKind::Weak
    }

    fn report(&mut self, now: Instant, report: &Report) {
        match report {
            Report::FetchFailed { failure, retry_in } => {
                let min_delay = retry_after(failure);
                self.check(*retry_in >= min_delay, 9, "retry-after ignored");
                self.check(*retry_in <= max_retry_delay(failure), 8, "fetch retry delay too long");
                self.check_no_quarantine_due(Role::Reading, failure);
                let has_crashed = failure.kind == FailureKind::Crashed;
                let min_delay = if has_crashed { *retry_in } else { min_delay };
                self.not_before = (!min_delay.is_zero()).then(|| now + min_delay);
                self.retry_at = Some(now + *retry_in);
            }
            Report::WatchLost { failure, retry_in } => {
                self.check(*retry_in <= max_retry_delay(failure), 8, "watch retry delay too long");
                self.check_no_quarantine_due(Role::Watching, failure);
                if let WatchState::Down { retry_at, .. } = &mut self.watch_state {
                    *retry_at = now + *retry_in;
                }
            }
            Report::Quarantined { .. } => self.quarantined(now, report),
            Report::Watching
            | Report::Recovered
            | Report::NoValueYet
            | Report::RemovalUnconfirmed { .. }
            | Report::DiffersFromPin
            | Report::Rejected { .. } => {}
        }
    }
}

/// Returns the maximum retry delay after a failure.
fn max_retry_delay(failure: &Failure) -> Duration {
    match failure.kind {
        FailureKind::Crashed => Duration::from_secs(10),
        FailureKind::Transient { .. } => Duration::from_secs(10).max(retry_after(failure)),
        FailureKind::Config | FailureKind::Denied | FailureKind::Permanent => {
            Duration::from_secs(300)
        }
    }
}

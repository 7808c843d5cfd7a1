//! Fetch state machine: schedules the fetches of a source and tracks the one in flight.

use crate::{
    crash_quarantine::{CrashCounter, RetryPlan},
    engine_settings::Settings,
    inputs_and_effects::{Role, Session},
    jitter_rng::JitterRng,
    retry_delay::{Backoff, retry_after},
    types::{Failure, FailureKind},
};
use std::time::{Duration, Instant};

/// Fetches of one source: when the next one is due, or the one in flight, with backoff and crash counter.
#[derive(Debug)]
pub(crate) struct Fetch {
    state: State,
    backoff: Backoff,
    crash_counter: CrashCounter,
    /// Earliest start of the next fetch, whatever the watch reports: the end of a `retry-after`, of
    /// the backoff after a crash, or of a quarantine.
    not_before: Option<Instant>,
    /// Set once the first poll period is determined. The first period has more jitter than later
    /// ones, see [`Fetch::jittered`].
    first_period_drawn: bool,
    /// Set if the source may have changed since the last value from a fetch or from the watch.
    unreported_change: bool,
}

/// Whether a fetch is in flight, or when the next one starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Idle until the next fetch starts at `at`. An `unconditional` fetch sends no cursor, so that a
    /// weak cursor cannot hide a change.
    Due { at: Instant, unconditional: bool },
    /// The driver is fetching the source, and has not answered yet.
    InFlight(InFlight),
}

/// Fetch in flight, see [`FetchContext`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InFlight {
    session: Session,
    started_at: Instant,
    timeout_at: Instant,
    dirty: bool,
    cursor_outdated: bool,
}

/// Part of the state of a fetch that is needed to handle its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchContext {
    /// Start of the fetch. The result describes the source at this time or later.
    pub(crate) started_at: Instant,
    /// Set if the source may have changed during the fetch, which requires a refetch.
    pub(crate) dirty: bool,
    /// Set if another value was published during the fetch.
    /// [`Outcome::Unchanged`](crate::types::Outcome::Unchanged) then refers to the cursor of an
    /// earlier value.
    pub(crate) cursor_outdated: bool,
}

impl Fetch {
    pub(crate) fn new(at: Instant) -> Self {
        Self {
            state: State::Due { at, unconditional: true },
            backoff: Backoff::default(),
            crash_counter: CrashCounter::new(Role::Reading),
            not_before: None,
            first_period_drawn: false,
            unreported_change: true,
        }
    }

    /// Returns the time of the next transition: the start of the next fetch, or the deadline of the
    /// one in flight.
    pub(crate) fn deadline(&self) -> Instant {
        match self.state {
            State::Due { at, .. } => at,
            State::InFlight(InFlight { timeout_at, .. }) => timeout_at,
        }
    }

    /// Returns the time of the next fetch, or `None` while a fetch is in flight.
    pub(crate) fn next(&self) -> Option<Instant> {
        match self.state {
            State::Due { at, .. } => Some(at),
            State::InFlight(_) => None,
        }
    }

    /// Returns whether the fetch that is due now is unconditional, or `None` if no fetch is due.
    pub(crate) fn due(&self, now: Instant) -> Option<bool> {
        match self.state {
            State::Due { at, unconditional } if at <= now => Some(unconditional),
            State::Due { .. } | State::InFlight(_) => None,
        }
    }

    /// Returns the session of the fetch in flight if it has exceeded its deadline.
    pub(crate) fn overdue_session(&self, now: Instant) -> Option<Session> {
        match self.state {
            State::InFlight(InFlight { session, timeout_at, .. }) if timeout_at <= now => {
                Some(session)
            }
            State::InFlight(_) | State::Due { .. } => None,
        }
    }

    pub(crate) fn start(&mut self, session: Session, started_at: Instant, timeout_at: Instant) {
        self.not_before = None;
        self.crash_counter.end_quarantine();
        let (dirty, cursor_outdated) = (false, false);
        self.state =
            State::InFlight(InFlight { session, started_at, timeout_at, dirty, cursor_outdated });
    }

    /// Returns whether a change may exist that neither a fetch nor the watch has reported.
    pub(crate) fn has_unreported_change(&self) -> bool {
        self.unreported_change
    }

    /// Returns the context of the fetch in flight, or `None` if `session` is not its session.
    pub(crate) fn context(&self, session: Session) -> Option<FetchContext> {
        match self.state {
            State::InFlight(InFlight {
                session: current,
                started_at,
                dirty,
                cursor_outdated,
                ..
            }) if current == session => Some(FetchContext { started_at, dirty, cursor_outdated }),
            State::InFlight(_) | State::Due { .. } => None,
        }
    }

    /// Records a possible change: schedules an unconditional fetch at the earliest allowed time, or
    /// a refetch after the fetch in flight.
    pub(crate) fn mark_dirty(&mut self, now: Instant) {
        let earliest = self.earliest_start(now);
        self.unreported_change = true;
        match &mut self.state {
            State::Due { at, unconditional } => {
                *at = earliest.min(*at);
                *unconditional = true;
            }
            State::InFlight(in_flight) => {
                in_flight.dirty = true;
            }
        }
    }

    /// Handles an explicit reload: ends a quarantine, ignores a `retry-after`, and fetches
    /// immediately, or again after the fetch in flight.
    pub(crate) fn reload_now(&mut self, now: Instant) {
        self.crash_counter.lift_quarantine();
        self.not_before = None;
        self.mark_dirty(now);
    }

    /// Records that the watch has reported the value of the source, and thereby every change up to
    /// now.
    pub(crate) fn change_reported(&mut self) {
        self.unreported_change = false;
    }

    /// Records that another value was published during the fetch in flight.
    pub(crate) fn mark_cursor_outdated(&mut self) {
        match &mut self.state {
            State::Due { .. } => {}
            State::InFlight(in_flight) => {
                in_flight.cursor_outdated = true;
            }
        }
    }

    /// Handles a successful fetch. `refetch` is set if a refetch follows because the result may miss
    /// a change.
    pub(crate) fn on_succeeded(&mut self, refetch: bool) {
        self.backoff.reset();
        self.crash_counter.reset();
        self.unreported_change &= refetch;
    }

    /// Returns the reason of the quarantine, if fetching is in quarantine.
    pub(crate) fn quarantine_reason(&self) -> Option<&Failure> {
        self.crash_counter.quarantine_reason()
    }

    /// Handles a failed fetch and returns the plan of the retry. If the source may have changed
    /// during the fetch (`dirty`), the retry skips the backoff. A `retry-after`, the backoff after a
    /// crash and a quarantine still apply.
    pub(crate) fn on_failed(
        &mut self,
        now: Instant,
        failure: &Failure,
        dirty: bool,
        settings: &Settings,
        rng: &mut JitterRng,
    ) -> RetryPlan {
        let delay = self.backoff.next_delay(failure, settings.interval, rng);
        let plan = self.crash_counter.record_failure(failure, delay, settings, rng);
        // Change notifications do not shorten the delay after a crash. A plugin could otherwise
        // crash in a loop.
        let has_crashed = failure.kind == FailureKind::Crashed;
        let min_delay = if has_crashed { plan.retry_in } else { retry_after(failure) };
        self.not_before = (!min_delay.is_zero()).then(|| now + min_delay);
        if dirty { RetryPlan { retry_in: min_delay, ..plan } } else { plan }
    }

    pub(crate) fn schedule(&mut self, at: Instant, unconditional: bool) {
        self.state = State::Due { at, unconditional };
    }

    /// Brings the next fetch forward to `latest`, or to the earliest allowed time after `latest`.
    pub(crate) fn schedule_no_later_than(&mut self, latest: Instant) {
        let latest = self.earliest_start(latest);
        match &mut self.state {
            State::Due { at, .. } => *at = latest.min(*at),
            State::InFlight(_) => {}
        }
    }

    /// Returns `at`, or the end of the period in which fetches are not allowed, whichever is later.
    fn earliest_start(&self, at: Instant) -> Instant {
        self.not_before.map_or(at, |not_before| not_before.max(at))
    }

    /// Returns the poll period with jitter. The first result is between 10 % and 100 % of `period`,
    /// so that sources that start together do not poll together. Later results are between 95 % and
    /// 105 %, so that sources drift apart.
    pub(crate) fn jittered(&mut self, period: Duration, rng: &mut JitterRng) -> Duration {
        if std::mem::replace(&mut self.first_period_drawn, true) {
            period.mul_f64(0.95 + rng.next_f64() * 0.1)
        } else {
            period.mul_f64(0.1 + rng.next_f64() * 0.9)
        }
    }
}

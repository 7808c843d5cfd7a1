//! Watch state machine: opens the watch of a source, and reopens it after failures.

use crate::{
    crash_quarantine::{CrashCounter, RetryPlan},
    engine_settings::Settings,
    inputs_and_effects::{Role, Session},
    jitter_rng::JitterRng,
    retry_delay::Backoff,
    types::{Failure, Strategy},
};
use std::time::{Duration, Instant};

/// Minimum uptime of a watch after which an event resets its backoff and its crash count.
const MIN_STABLE_UPTIME: Duration = Duration::from_secs(5);

/// Watch of one source: whether it is armed, with backoff and crash counter.
#[derive(Debug)]
pub(crate) struct Watch {
    state: State,
    backoff: Backoff,
    crash_counter: CrashCounter,
    /// Set once a watch of this source was armed.
    was_armed: bool,
}

/// Whether the watch is armed, being opened, or down until the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The strategy of the source uses no watch.
    Off,
    /// The watch opens only after the first fetch, which has not completed yet.
    Waiting,
    /// No watch; the next one opens at `retry_at`.
    Down { retry_at: Instant },
    /// Watch that is being armed.
    Opening { session: Session, timeout_at: Instant },
    /// Armed watch.
    Live { session: Session, since: Instant, last_event_at: Instant },
}

impl Watch {
    pub(crate) fn new(strategy: Strategy) -> Self {
        let state = match strategy {
            Strategy::Polling => State::Off,
            Strategy::Realtime | Strategy::Hybrid => State::Waiting,
        };
        let crash_counter = CrashCounter::new(Role::Watching);
        Self { state, backoff: Backoff::default(), crash_counter, was_armed: false }
    }

    pub(crate) fn deadline(&self, settings: &Settings) -> Option<Instant> {
        match self.state {
            State::Off | State::Waiting => None,
            State::Down { retry_at } => Some(retry_at),
            State::Opening { timeout_at, .. } => Some(timeout_at),
            State::Live { last_event_at, .. } => Some(last_event_at + settings.liveness),
        }
    }

    /// Handles the completion of a fetch, successful or not: the first one allows the watch to
    /// open.
    pub(crate) fn on_fetch_completed(&mut self, now: Instant) {
        match self.state {
            State::Waiting => self.state = State::Down { retry_at: now },
            State::Off | State::Down { .. } | State::Opening { .. } | State::Live { .. } => {}
        }
    }

    /// Returns whether the watch is due to be opened.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Down { retry_at } => retry_at <= now,
            State::Off | State::Waiting | State::Opening { .. } | State::Live { .. } => false,
        }
    }

    pub(crate) fn open(&mut self, session: Session, timeout_at: Instant) {
        self.crash_counter.end_quarantine();
        self.state = State::Opening { session, timeout_at };
    }

    /// Returns whether `session` is the session of the current watch.
    pub(crate) fn is_current(&self, session: Session) -> bool {
        match self.state {
            State::Opening { session: current, .. } | State::Live { session: current, .. } => {
                current == session
            }
            State::Off | State::Waiting | State::Down { .. } => false,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    pub(crate) fn was_armed(&self) -> bool {
        self.was_armed
    }

    /// Returns the reason to close the watch, if it has exceeded its deadline or its liveness
    /// limit.
    pub(crate) fn timeout_reason(&self, now: Instant, settings: &Settings) -> Option<String> {
        match self.state {
            State::Opening { timeout_at, .. } => (timeout_at <= now)
                .then(|| format!("the watch could not be opened {}", settings.timeout_text())),
            State::Live { last_event_at, .. } => {
                (last_event_at + settings.liveness <= now).then(|| {
                    format!("the watch was silent: limit `liveness` is {:?}", settings.liveness)
                })
            }
            State::Off | State::Waiting | State::Down { .. } => None,
        }
    }

    /// Marks the watch as live. Does nothing and returns false if `session` is not the session of the
    /// opening watch.
    pub(crate) fn arm(&mut self, session: Session, now: Instant) -> bool {
        match self.state {
            State::Opening { session: current, .. } if current == session => {
                self.state = State::Live { session, since: now, last_event_at: now };
                self.was_armed = true;
                true
            }
            State::Opening { .. }
            | State::Live { .. }
            | State::Off
            | State::Waiting
            | State::Down { .. } => false,
        }
    }

    /// Records an event. Does nothing and returns false if `session` is not the session of the live
    /// watch.
    pub(crate) fn record_event(&mut self, session: Session, now: Instant) -> bool {
        match &mut self.state {
            State::Live { session: current, since, last_event_at } if *current == session => {
                *last_event_at = now;
                // An early event does not prove that the watch works: the server may close the
                // connection right after it, or the plugin may crash.
                if now.saturating_duration_since(*since) >= MIN_STABLE_UPTIME {
                    self.backoff.reset();
                    self.crash_counter.reset();
                }
                true
            }
            State::Live { .. }
            | State::Off
            | State::Waiting
            | State::Down { .. }
            | State::Opening { .. } => false,
        }
    }

    /// Returns the reason of the quarantine, if watching is in quarantine.
    pub(crate) fn quarantine_reason(&self) -> Option<&Failure> {
        self.crash_counter.quarantine_reason()
    }

    /// Handles an explicit reload: ends a quarantine, and schedules the opening of the watch for
    /// `now`.
    pub(crate) fn reload_now(&mut self, now: Instant) {
        if self.crash_counter.lift_quarantine()
            && let State::Down { retry_at } = &mut self.state
        {
            *retry_at = now;
        }
    }

    /// Handles the loss of the watch and returns the plan of the retry.
    pub(crate) fn on_lost(
        &mut self,
        now: Instant,
        failure: &Failure,
        settings: &Settings,
        rng: &mut JitterRng,
    ) -> RetryPlan {
        let delay = self.backoff.next_delay(failure, settings.interval, rng);
        let plan = self.crash_counter.record_failure(failure, delay, settings, rng);
        self.state = State::Down { retry_at: now + plan.retry_in };
        plan
    }
}

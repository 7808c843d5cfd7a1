//! Oracle: checks the invariants of the contract at every step. It observes the inputs and effects
//! of the engine, keeps its own state, and names the violated point of the contract.
//!
//! The contract does not promise these properties, and the oracle does not check them:
//!
//! - Monotonic order of values after a watch event with an outdated state. The engine cannot detect
//!   that; the next fetch corrects it.
//! - Detection of an unannounced change behind a weak cursor: see `Host::is_hidden_by_weak_cursor`.
//! - That the source still has an accepted value after a slow validation.

mod answers;
mod effects;
mod failures;
mod liveness;
mod pin;

use super::{
    source::{Content, SimValue},
    world::{Provenance, World},
};
use crate::{
    Input, Session, Settings,
    types::{Cursor, Failure, Revision},
};
use failures::CrashCounter;
use std::time::{Duration, Instant};

/// Violation: a point of the contract and its description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Violation {
    pub(in crate::sim) point: u8,
    pub(in crate::sim) description: String,
}

/// Kind of an input. It decides which effects are justified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Answer with an outdated or unknown session number.
    Late,
    /// Input that confirms no value: time, a failure, a change notification.
    Other,
    Alive {
        state: usize,
    },
    /// Value that the source reports.
    Reported {
        content: Option<Content>,
        reported_at: Instant,
    },
    /// `Unchanged`: the source still has the value of the cursor.
    Unchanged {
        actual: Option<Content>,
    },
    /// Result of a fetch during which the watch reported a value. It may be older.
    Concurrent {
        content: Option<Content>,
        reported_at: Instant,
    },
    Accepted,
    /// Pin of a value.
    Pinned,
}

/// Fetch in flight.
#[derive(Debug)]
struct FetchInFlight {
    session: Session,
    started_at: Instant,
    step: u64,
    /// Set if the watch has reported a value during the fetch.
    has_concurrent_update: bool,
    /// Published value before that report.
    published_before: Option<Content>,
    /// Set if another value was published during the fetch.
    cursor_outdated: bool,
}

/// Expected state of the watch.
#[derive(Debug)]
enum WatchState {
    Down { since: Instant, retry_at: Instant, not_before: Instant },
    Opening { session: Session, since: Instant },
    Live { session: Session, since: Instant, last_event_at: Instant },
}

/// Report of an absent or empty value that no other report contradicts.
#[derive(Debug)]
struct PendingRemoval {
    since: Instant,
    confirm_delay: Duration,
}

/// Expected state of the engine, and the first violation.
#[derive(Debug)]
pub(in crate::sim) struct Oracle {
    settings: Settings,
    pub(in crate::sim) violation: Option<Violation>,
    // State that survives a restart.
    pub(in crate::sim) revision: Revision,
    pub(in crate::sim) published: Option<SimValue>,
    newest_state: usize,
    newest_reported_state: usize,
    /// Set after a watch event with an outdated state. Values may then be published out of order.
    pub(in crate::sim) order_broken: bool,
    pub(in crate::sim) order_broken_at: Option<Instant>,
    /// Pinned value.
    pub(in crate::sim) pinned: Option<Content>,
    /// State of the source that the last pinned value comes from. The source may have it again.
    pinned_state: Option<usize>,
    // State that a restart resets.
    in_flight: Option<FetchInFlight>,
    watch_state: WatchState,
    was_armed: bool,
    fetched_once: bool,
    validating: Option<(Session, SimValue)>,
    validation_due: Option<Content>,
    last_attempt: Option<Content>,
    /// Last rejected value, until a value is accepted.
    rejected: Option<Content>,
    /// Last value that the source reported, without late answers.
    pub(in crate::sim) last_reported: Option<Option<Content>>,
    /// Cursors of the reports during the pin, and of the value published before it.
    held_back_cursors: Vec<Cursor>,
    /// Pinned value that the current step has to publish.
    pin_due: Option<Content>,
    /// Set while the published value is from before a restart and only
    /// [`UNCONFIRMED`](crate::UNCONFIRMED) explains its staleness.
    unconfirmed: bool,
    /// Cursors of the published value.
    pub(in crate::sim) cursors: Vec<Cursor>,
    /// Cursors of the value published before. A fetch in the same step as the validation may still
    /// send them.
    previous_cursors: Vec<Cursor>,
    confirmed_at: Instant,
    pub(in crate::sim) stale: bool,
    /// Set if a fetch or the watch has failed since the last confirmation.
    pub(in crate::sim) failing: bool,
    /// Set if a failure or a restart happened since the source last reported a non-empty value.
    outage: bool,
    pending_removal: Option<PendingRemoval>,
    /// Step of the oldest change notification that no fetch has answered.
    pub(in crate::sim) dirty_since_step: Option<u64>,
    pub(in crate::sim) dirty_at: Instant,
    /// Set if the next fetch has to be unconditional.
    unconditional_due: bool,
    /// Set until a fetch or the watch reports the announced change.
    unreported_change: bool,
    /// Earliest start of the next fetch, after a `retry-after`, a crash or a quarantine.
    not_before: Option<Instant>,
    /// Time of the retry after a failed fetch.
    retry_at: Option<Instant>,
    /// Last fetch failure since the last confirmation.
    last_failure: Option<Failure>,
    fetch_crashes: CrashCounter,
    watch_crashes: CrashCounter,
    /// End of the latest quarantine.
    pub(in crate::sim) quarantined_until: Option<Instant>,
    /// Set if a call has crashed since the last confirmation.
    crashed: bool,
    /// Set if this step started a quarantine, which may repeat the report of a stale value.
    quarantine_started: bool,
    pub(in crate::sim) gave_up: bool,
    steps: u64,
    // Rate of fetches.
    pub(in crate::sim) fetches: u64,
    fetch_budget: u64,
    run_started_at: Instant,
}

impl Oracle {
    pub(in crate::sim) fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            settings: settings.clone(),
            violation: None,
            revision: Revision::default(),
            published: None,
            newest_state: 0,
            newest_reported_state: 0,
            order_broken: false,
            order_broken_at: None,
            pinned: None,
            pinned_state: None,
            in_flight: None,
            watch_state: WatchState::Down { since: now, retry_at: now, not_before: now },
            was_armed: false,
            fetched_once: false,
            validating: None,
            validation_due: None,
            last_attempt: None,
            rejected: None,
            last_reported: None,
            held_back_cursors: Vec::new(),
            pin_due: None,
            unconfirmed: false,
            cursors: Vec::new(),
            previous_cursors: Vec::new(),
            confirmed_at: now,
            stale: false,
            failing: false,
            outage: true,
            pending_removal: None,
            dirty_since_step: Some(0),
            dirty_at: now,
            unconditional_due: false,
            unreported_change: true,
            not_before: None,
            retry_at: None,
            last_failure: None,
            fetch_crashes: CrashCounter::default(),
            watch_crashes: CrashCounter::default(),
            quarantined_until: None,
            crashed: false,
            quarantine_started: false,
            gave_up: false,
            steps: 0,
            fetches: 0,
            fetch_budget: 0,
            run_started_at: now,
        }
    }

    /// Restarts the host: only the published state survives.
    pub(in crate::sim) fn restart(&mut self, now: Instant) {
        let cursor = self.published.as_ref().and_then(|sim_value| sim_value.cursor.clone());
        *self = Self {
            violation: self.violation.take(),
            revision: self.revision,
            last_attempt: self.content(),
            unconfirmed: self.published.is_some(),
            published: self.published.take(),
            pinned: self.pinned,
            pinned_state: self.pinned_state,
            newest_state: self.newest_state,
            newest_reported_state: self.newest_reported_state,
            order_broken: self.order_broken,
            order_broken_at: self.order_broken_at,
            cursors: cursor.into_iter().collect(),
            fetches: self.fetches,
            fetch_budget: self.fetch_budget + 10,
            run_started_at: self.run_started_at,
            ..Self::new(&self.settings, now)
        };
    }

    /// Returns the published content.
    pub(in crate::sim) fn content(&self) -> Option<Content> {
        self.published.as_ref().map(|sim_value| sim_value.content)
    }

    fn has_content(&self) -> bool {
        self.content().is_some_and(|content| content != 0)
    }

    pub(in crate::sim) fn record_violation(&mut self, point: u8, description: impl Into<String>) {
        self.violation.get_or_insert_with(|| Violation { point, description: description.into() });
    }

    fn check(&mut self, holds: bool, point: u8, description: &str) {
        if !holds {
            self.record_violation(point, description);
        }
    }

    /// Records an input before the engine handles it.
    pub(in crate::sim) fn input(
        &mut self,
        now: Instant,
        input: &Input<SimValue>,
        provenance: Provenance,
        world: &World,
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
            // A world never replaces its source; the test is in `contract`.
            Input::Replaced(_) => Cause::Other,
            Input::ReloadNow => {
                self.not_before = None;
                self.lift_quarantines(now);
                self.mark_dirty(now);
                Cause::Other
            }
            Input::Fetched(session, result) => {
                self.fetched(now, *session, result, provenance, world)
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
            Input::Judged(session, result) => {
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

    fn mark_dirty(&mut self, now: Instant) {
        self.fetch_budget += 2;
        self.dirty_since_step = Some(self.steps);
        self.dirty_at = now;
        self.unreported_change = true;
        if self.in_flight.is_none() {
            // A change notification overrides the retry delay.
            self.retry_at = None;
        }
    }

    fn mark_fetched_once(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.fetched_once, true)
            && let WatchState::Down { since, retry_at, not_before } = &mut self.watch_state
        {
            (*since, *retry_at, *not_before) = (now, now, now);
        }
    }
}

/// Step: one input and its effects.
#[derive(Debug)]
pub(in crate::sim) struct Step {
    cause: Cause,
}

/// Minimum uptime after which an event proves that a watch works.
const MIN_STABLE_UPTIME: Duration = Duration::from_secs(5);

//! Oracle, state: expected state of the engine, and the first violation.

use crate::{
    Session, Settings,
    sim::source::{Content, SimValue},
    types::{Cursor, Failure, Revision},
};
use std::time::{Duration, Instant};

/// Violation of the contract: the number of the violated point, and a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Violation {
    pub(in crate::sim) point: u8,
    pub(in crate::sim) description: String,
}

/// Kind of an input. It decides which effects are justified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Answer with an outdated or unknown session number.
    Late,
    /// Input that confirms no value: time, a failure, a change notification.
    Other,
    Alive {
        state: usize,
    },
    /// Value that a fetch or a watch event reports.
    Reported {
        content: Option<Content>,
        reported_at: Instant,
    },
    /// `Unchanged`: the source still has the value of the cursor.
    Unchanged {
        actual: Option<Content>,
    },
    /// Result of a fetch during which the watch reported a value. The result may be older than that value.
    Concurrent {
        content: Option<Content>,
        reported_at: Instant,
    },
    Accepted,
    /// The operator has pinned a value.
    Pinned,
}

/// Fetch that the engine has started and whose answer has not arrived.
#[derive(Debug)]
pub(super) struct FetchInFlight {
    pub(super) session: Session,
    pub(super) started_at: Instant,
    pub(super) step: u64,
    /// Set if the watch has reported a value during the fetch.
    pub(super) has_concurrent_update: bool,
    /// Published value before the first report of the watch during the fetch.
    pub(super) published_before: Option<Content>,
    /// Set if another value was published during the fetch.
    pub(super) cursor_outdated: bool,
}

/// State in which the engine should have the watch.
#[derive(Debug)]
pub(super) enum WatchState {
    Down { since: Instant, retry_at: Instant, not_before: Instant },
    Opening { session: Session, since: Instant },
    Live { session: Session, since: Instant, last_event_at: Instant },
}

/// Report of an absent or empty value that still has to be confirmed.
#[derive(Debug)]
pub(super) struct PendingRemoval {
    pub(super) since: Instant,
    pub(super) confirm_delay: Duration,
}

/// Crash counter of fetching or of watching.
#[derive(Debug, Default)]
pub(super) struct CrashCounter {
    /// Number of consecutive crashes.
    pub(super) consecutive: u32,
    pub(super) quarantine_count: u32,
    /// End of the quarantine, unless an explicit reload ends it earlier.
    pub(super) until: Option<Instant>,
}

impl CrashCounter {
    /// Resets the counter after proof that the role works.
    pub(super) fn reset(&mut self) {
        (self.consecutive, self.quarantine_count) = (0, 0);
    }
}

/// Expected state of the engine, and the first violation.
#[derive(Debug)]
pub(in crate::sim) struct Oracle {
    pub(super) settings: Settings,
    pub(in crate::sim) violation: Option<Violation>,
    // Fields that keep their values when the simulation restarts the host.
    pub(in crate::sim) revision: Revision,
    pub(in crate::sim) published: Option<SimValue>,
    pub(super) newest_state: usize,
    pub(super) newest_reported_state: usize,
    /// Set after a watch event with an outdated state. Values may then be published out of order.
    pub(in crate::sim) order_broken: bool,
    pub(in crate::sim) order_broken_at: Option<Instant>,
    /// Content of the pinned value; `None` if no value is pinned.
    pub(in crate::sim) pinned: Option<Content>,
    /// Index of the source's state that the last pinned value comes from. After the unpin, the engine
    /// may publish this value again, although its state is older than the newest published one.
    pub(super) pinned_state: Option<usize>,
    // Fields that are reset when the simulation restarts the host.
    pub(super) in_flight: Option<FetchInFlight>,
    pub(super) watch_state: WatchState,
    pub(super) was_armed: bool,
    pub(super) fetched_once: bool,
    pub(super) validating: Option<(Session, SimValue)>,
    pub(super) validation_due: Option<Content>,
    pub(super) last_attempt: Option<Content>,
    /// Last rejected value, until a value is accepted.
    pub(super) rejected: Option<Content>,
    /// Last value that the source reported, without late answers.
    pub(in crate::sim) last_reported: Option<Option<Content>>,
    /// Cursors of the reports during the pin, and of the value published before the pin.
    pub(super) held_back_cursors: Vec<Cursor>,
    /// Pinned value that the current step has to publish.
    pub(super) pin_due: Option<Content>,
    /// Set while the published value is from before a restart and only
    /// [`UNCONFIRMED`](crate::UNCONFIRMED) explains its staleness.
    pub(super) unconfirmed: bool,
    /// Cursors with which the source may have reported the published value. A fetch may send any of them.
    pub(in crate::sim) cursors: Vec<Cursor>,
    /// Cursors of the previously published value. A fetch in the step of the publication may still
    /// send them.
    pub(super) previous_cursors: Vec<Cursor>,
    pub(super) confirmed_at: Instant,
    pub(in crate::sim) stale: bool,
    /// Set if a fetch or the watch has failed since the last confirmation.
    pub(in crate::sim) failing: bool,
    /// Set if a failure, a restart or an unpin happened since the source last reported a non-empty
    /// value.
    pub(super) outage: bool,
    pub(super) pending_removal: Option<PendingRemoval>,
    /// Step of the latest change notification or failed fetch, until a fetch that started in this
    /// step or later succeeds.
    pub(in crate::sim) dirty_since_step: Option<u64>,
    pub(in crate::sim) dirty_at: Instant,
    /// Set if the next fetch has to be unconditional.
    pub(super) unconditional_due: bool,
    /// Set until a fetch or the watch reports the announced change.
    pub(super) unreported_change: bool,
    /// Earliest start of the next fetch, after a `retry-after`, a crash or a quarantine.
    pub(super) not_before: Option<Instant>,
    /// Time of the retry after a failed fetch.
    pub(super) retry_at: Option<Instant>,
    /// Last fetch failure since the last successful fetch or confirmation.
    pub(super) last_failure: Option<Failure>,
    pub(super) fetch_crashes: CrashCounter,
    pub(super) watch_crashes: CrashCounter,
    /// End of the latest quarantine.
    pub(in crate::sim) quarantined_until: Option<Instant>,
    /// Set if a call has crashed since the last confirmation.
    pub(super) crashed: bool,
    /// Set if the current step started a quarantine. A stale value may then be reported as stale
    /// again, with the quarantine as the reason.
    pub(super) quarantine_started: bool,
    pub(in crate::sim) gave_up: bool,
    pub(super) steps: u64,
    // State for the check of the fetch rate.
    pub(in crate::sim) fetches: u64,
    pub(super) fetch_budget: u64,
    pub(super) run_started_at: Instant,
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

    /// Restarts the host: only the published value, its revision and the pin survive in the engine.
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

    pub(super) fn has_content(&self) -> bool {
        self.content().is_some_and(|content| content != 0)
    }

    pub(in crate::sim) fn record_violation(&mut self, point: u8, description: impl Into<String>) {
        self.violation.get_or_insert_with(|| Violation { point, description: description.into() });
    }

    pub(super) fn check(&mut self, holds: bool, point: u8, description: &str) {
        if !holds {
            self.record_violation(point, description);
        }
    }

    pub(super) fn mark_dirty(&mut self, now: Instant) {
        self.fetch_budget += 2;
        self.dirty_since_step = Some(self.steps);
        self.dirty_at = now;
        self.unreported_change = true;
        if self.in_flight.is_none() {
            // A change notification overrides the retry delay.
            self.retry_at = None;
        }
    }

    pub(super) fn mark_fetched_once(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.fetched_once, true)
            && let WatchState::Down { since, retry_at, not_before } = &mut self.watch_state
        {
            (*since, *retry_at, *not_before) = (now, now, now);
        }
    }
}

/// One step of the engine: an input, and the effects that it returned. The cause decides which are allowed.
#[derive(Debug)]
pub(in crate::sim) struct Step {
    pub(super) cause: Cause,
}

//! Oracle, pins: checks that a pinned value stays published, and that the values which the source
//! reports during the pin are held back, i.e. not published.

use super::expected_state::{Cause, Oracle};
use crate::{
    sim::source::SimValue,
    types::{Cursor, Revision},
};
use std::time::Instant;

impl Oracle {
    /// Records that the operator pins a value: the engine has to publish it unless it is published already.
    pub(super) fn pin(&mut self, sim_value: &SimValue) -> Cause {
        self.fetch_budget += 2;
        if self.pinned.is_none() {
            self.held_back_cursors.clone_from(&self.cursors);
        }
        self.pinned = Some(sim_value.content);
        self.pin_due = (self.content() != Some(sim_value.content)).then_some(sim_value.content);
        self.last_attempt = Some(sim_value.content);
        self.validating = None;
        self.rejected = None;
        self.pending_removal = None;
        Cause::Pinned
    }

    pub(super) fn unpin(&mut self, now: Instant) {
        if self.pinned.take().is_none() {
            return;
        }
        self.held_back_cursors.clear();
        self.last_reported = None;
        self.outage = true;
        if let Some(fetch) = &mut self.in_flight {
            fetch.cursor_outdated = true;
        }
        self.mark_dirty(now);
    }

    /// Checks that the engine publishes the pinned value, with a higher revision.
    pub(super) fn pinned(&mut self, revision: Revision, sim_value: &SimValue) {
        let due = self.pin_due.take() == Some(sim_value.content);
        self.check(due, 11, "published value differs from the pin");
        self.check(revision > self.revision, 2, "revision not increased");
        self.revision = revision;
        self.pinned_state = Some(sim_value.state);
        if let Some(fetch) = &mut self.in_flight {
            fetch.cursor_outdated = true;
        }
        let cursors = sim_value.cursor.iter().cloned().collect();
        self.previous_cursors = std::mem::replace(&mut self.cursors, cursors);
        self.published = Some(sim_value.clone());
    }

    /// Returns whether the cursor belongs to a value that the source reported during the pin, or to
    /// the value published before the pin.
    pub(super) fn is_held_back(&self, cursor: &Cursor) -> bool {
        self.pinned.is_some() && self.held_back_cursors.contains(cursor)
    }

    /// Checks that no value of the source is validated or published during a pin.
    pub(super) fn check_not_pinned(&mut self) {
        self.check(self.pinned.is_none(), 11, "source value validated or published during a pin");
    }

    /// Checks the invariants of a pin that hold between two steps.
    pub(super) fn check_pin(&mut self) {
        self.check(self.pin_due.is_none(), 11, "pinned value not published");
        let matches_pin = self.pinned.is_none() || self.pinned == self.content();
        self.check(matches_pin, 11, "published value is not the pinned one");
    }
}

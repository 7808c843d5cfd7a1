//! What is pinned stays; and what was held back comes through when it is let go.

use super::{Cause, Oracle};
use crate::{
    sim::source::Held,
    types::{Cursor, Revision},
};
use std::time::Instant;

impl Oracle {
    /// Somebody pins a value.
    pub(super) fn pin(&mut self, held: &Held) -> Cause {
        self.allowed += 2;
        if self.pinned.is_none() {
            self.held_back.clone_from(&self.cursors);
        }
        self.pinned = Some(held.content);
        self.pin_due = (self.content() != Some(held.content)).then_some(held.content);
        self.last_attempt = Some(held.content);
        self.offered = None;
        self.refused = None;
        self.nothing = None;
        Cause::Pinned
    }

    pub(super) fn unpin(&mut self, now: Instant) {
        if self.pinned.take().is_none() {
            return;
        }
        self.held_back.clear();
        self.last_told = None;
        self.outage = true;
        if let Some(asked) = &mut self.asked {
            asked.outdated = true;
        }
        self.announce(now);
    }

    /// The pinned value is published.
    pub(super) fn pinned(&mut self, revision: Revision, held: &Held) {
        let due = self.pin_due.take() == Some(held.content);
        self.demand(due, 11, "published is not what was pinned");
        self.demand(revision > self.revision, 2, "the revision does not go up");
        self.revision = revision;
        self.pinned_state = Some(held.state);
        if let Some(asked) = &mut self.asked {
            asked.outdated = true;
        }
        let cursors = held.cursor.iter().cloned().collect();
        self.cursors_before = std::mem::replace(&mut self.cursors, cursors);
        self.published = Some(held.clone());
    }

    /// Whether a cursor is one that what is held back may be asked about with.
    pub(super) fn is_held_back(&self, cursor: &Cursor) -> bool {
        self.pinned.is_some() && self.held_back.contains(cursor)
    }

    /// Nothing of what the source says is published or tried.
    pub(super) fn lets_through(&mut self) {
        self.demand(self.pinned.is_none(), 11, "a value is pinned, and another one is let through");
    }

    /// What must hold between two steps.
    pub(super) fn holds(&mut self) {
        self.demand(self.pin_due.is_none(), 11, "what was pinned is not published");
        let held = self.pinned.is_none() || self.pinned == self.content();
        self.demand(held, 11, "what is published is not what is pinned");
    }
}

//! A value that somebody has pinned: it stays, whatever the source says.

use super::{Effect, Engine};
use crate::mutations::Bug;
use crate::types::{Cursor, Value};
use std::time::Instant;

/// What is known of the source while a value is pinned.
#[derive(Debug, Default)]
pub(crate) struct Pin {
    /// Of what the source has said last: while it says that it still is so, nothing is transferred.
    pub(crate) cursor: Option<Cursor>,
    /// Whether that was another value than the pinned one, or that there is none.
    pub(crate) holds_back: bool,
}

impl<V: Value> Engine<V> {
    pub(crate) fn pin(&mut self, now: Instant, value: V, effects: &mut Vec<Effect<V>>) {
        let (had_value, was_pending) = (self.ledger.value().is_some(), self.ledger.is_pending());
        if let Some((revision, value)) = self.ledger.pin(value) {
            self.fetch.outdated();
            effects.push(Effect::Publish(revision, value));
        }
        // Nothing cannot be stale, this can.
        if !had_value && self.trouble.is_some() {
            self.is_stale(self.why_stale(), effects);
        }
        if was_pending {
            // That what the source has was refused says nothing any more.
            self.fetch.dirty(now);
        }
    }

    pub(crate) fn unpin(&mut self, now: Instant) {
        if !self.ledger.unpin() {
            return;
        }
        // What is in flight was perhaps asked with the cursor of what was held back.
        if !self.bugs.has(Bug::UnchangedSincePinned) {
            self.fetch.outdated();
        }
        if !self.bugs.has(Bug::UnpinReadsNothing) {
            self.fetch.dirty(now);
        }
        // What the source has said meanwhile was not looked at.
        self.has_agreed = false;
    }
}

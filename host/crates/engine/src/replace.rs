//! Replacement of a source by one with another plugin or other settings.

use super::{Engine, Settings};
use crate::types::Value;
use crate::{fetch::Fetch, watch::Watch};
use std::time::Instant;

impl<V: Value> Engine<V> {
    /// Starts over with the new source, and keeps the published value and its revision.
    ///
    /// The first fetch is unconditional, since the new source may not understand the cursor of the
    /// previous one.
    pub(crate) fn on_replaced(&mut self, now: Instant, settings: Settings) {
        self.settings = settings.clamped();
        self.fetch = Fetch::new(now, self.mutations);
        self.watch = Watch::new(self.settings.strategy, self.mutations);
        self.concurrent_update = None;
        self.value_state.clear_pending();
        // The new source may report no value before it has loaded its data.
        self.has_confirmed = false;
    }
}

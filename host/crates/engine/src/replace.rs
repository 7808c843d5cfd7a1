//! A source that is another one from here on: read by another plugin, or with other settings.

use super::{Engine, Settings};
use crate::types::Value;
use crate::{fetch::Fetch, watch::Watch};
use std::time::Instant;

impl<V: Value> Engine<V> {
    /// What is published stays until the other one says something else, and so do the revisions. All that
    /// was begun is begun anew: it is read in full, since its cursor may mean something else, and watched.
    pub(crate) fn replaced(&mut self, now: Instant, settings: Settings) {
        self.settings = settings.bounded();
        self.fetch = Fetch::due(now, self.bugs);
        self.watch = Watch::new(self.settings.strategy, self.bugs);
        self.overtaking = None;
        self.ledger.forget_pending();
        // The other one may not have loaded its data yet, when it says that there is nothing.
        self.has_agreed = false;
    }
}

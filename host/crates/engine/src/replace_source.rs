//! Replacement of a source by one with another plugin or other settings.

use crate::{
    engine_settings::Settings, engine_state::EngineState, fetch::Fetch, types::Value, watch::Watch,
};
use std::time::Instant;

impl<V: Value> EngineState<V> {
    /// Starts over with the new source, and keeps the published value and its revision.
    ///
    /// The first fetch is unconditional, since the new source may not understand the cursor of the
    /// previous one.
    pub(crate) fn on_replaced(&mut self, now: Instant, settings: Settings) {
        self.settings = settings.clamped();
        self.fetch = Fetch::new(now);
        self.watch = Watch::new(self.settings.strategy);
        self.concurrent_update = None;
        self.value_state.clear_pending();
        // The new source may report no value before it has loaded its data.
        self.has_confirmed = false;
    }
}

//! Replacement of a source by one with another plugin or other settings.

use crate::{
    engine_settings::Settings, engine_state::EngineState, fetch::Fetch, types::Value, watch::Watch,
};
use std::time::Instant;

impl<V: Value> EngineState<V> {
    /// Starts over with the new source. Keeps the published value, its revision and a pin.
    ///
    /// The new source gets no cursor until it has reported a value, since it may not understand the
    /// cursor of the previous source.
    pub(crate) fn on_replaced(&mut self, now: Instant, settings: Settings) {
        self.settings = settings.clamped();
        self.fetch = Fetch::new(now);
        self.watch = Watch::new(self.settings.strategy);
        self.concurrent_update = None;
        self.value_state.on_source_replaced();
        // The new source may report no value before it has loaded its data.
        self.has_confirmed = false;
    }
}

//! Pinning: keeps a value published, whatever the source reports.

use crate::{engine_state::EngineState, inputs_and_effects::Effect, types::Value};
use std::time::Instant;

impl<V: Value> EngineState<V> {
    /// Publishes a value and keeps it published, whatever the source reports, until it is unpinned.
    pub(crate) fn pin(&mut self, now: Instant, value: V, effects: &mut Vec<Effect<V>>) {
        let (had_value, was_pending) =
            (self.value_state.value().is_some(), self.value_state.is_pending());
        if let Some((revision, value)) = self.value_state.pin(value) {
            self.fetch.mark_cursor_outdated();
            effects.push(Effect::Publish(revision, value));
        }
        // The engine reports no staleness while there is no value. If a failure is unresolved, the
        // pinned value is therefore reported as stale together with its publication.
        if !had_value && self.active_failure.is_some() {
            self.mark_stale(self.stale_reason(), effects);
        }
        if was_pending {
            // The source has reported a value that is in validation or was rejected. This report was no
            // confirmation, but during a pin, any answer of the source is one. A new fetch obtains an
            // answer before the pinned value becomes stale.
            self.fetch.mark_dirty(now);
        }
    }

    /// Removes the pin and schedules a fetch, so that the current value of the source is published.
    pub(crate) fn unpin(&mut self, now: Instant) {
        if !self.value_state.unpin() {
            return;
        }
        // A fetch in flight may have sent the cursor of a value that the pin held back. Its result
        // `Unchanged` must not confirm the published value.
        self.fetch.mark_cursor_outdated();
        self.fetch.mark_dirty(now);
        // Reports during the pin did not confirm the source's own value.
        self.has_confirmed = false;
    }
}

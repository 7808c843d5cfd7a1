//! Engine inputs: events of a watch.

use crate::{
    engine_state::EngineState,
    event_and_fetch_order::ConcurrentUpdate,
    inputs_and_effects::Effect,
    types::{Event, Value},
};
use std::time::Instant;

impl<V: Value> EngineState<V> {
    /// Handles an event of the armed watch: a changed or removed value, a change notification, or a heartbeat.
    pub(crate) fn on_watch_event(
        &mut self,
        now: Instant,
        event: Event<V>,
        effects: &mut Vec<Effect<V>>,
    ) {
        let reported = match event {
            Event::Alive => {
                // An alive event confirms the published value only if no failure is unresolved, and
                // no change, removal or validation is pending.
                let uncertain = self.active_failure.is_some()
                    || self.fetch.has_unreported_change()
                    || self.value_state.removal_confirm_at().is_some()
                    || self.value_state.is_pending();
                if !uncertain {
                    self.mark_confirmed(now, effects);
                }
                return;
            }
            Event::Dirty => return self.fetch.mark_dirty(now),
            Event::Changed(value) => Some(value),
            Event::Removed => None,
        };
        self.fetch.change_reported();
        self.record_concurrent_update(reported.as_ref());
        self.on_reported_value(now, reported, None, effects);
    }

    /// Records a value that the watch reports while a fetch is in flight. The fetch result may be
    /// older than that value, or `Unchanged` with the cursor of the value published before.
    fn record_concurrent_update(&mut self, reported: Option<&V>) {
        if self.fetch.next().is_none() {
            let published_before = match self.concurrent_update.take() {
                Some(concurrent_update) => concurrent_update.published_before,
                None => self.value_state.value().cloned(),
            };
            self.concurrent_update =
                Some(Box::new(ConcurrentUpdate { published_before, reported: reported.cloned() }));
        }
    }
}

//! Engine inputs: result of a fetch.

use crate::{
    engine_state::EngineState,
    fetch::FetchContext,
    inputs_and_effects::Effect,
    types::{Failure, Outcome, Value},
};
use std::time::Instant;

impl<V: Value> EngineState<V> {
    /// Handles the result of a fetch and schedules the next one.
    pub(crate) fn on_fetched(
        &mut self,
        now: Instant,
        context: FetchContext,
        result: Result<Outcome<V>, Failure>,
        effects: &mut Vec<Effect<V>>,
    ) {
        self.watch.on_fetch_completed(now);
        let concurrent_update = self.concurrent_update.take().map(|update| *update);
        match result {
            Ok(outcome) => {
                let mut refetch = context.dirty;
                let mut unconditional = false;
                match concurrent_update {
                    None if context.cursor_outdated && matches!(outcome, Outcome::Unchanged) => {
                        refetch = true;
                    }
                    None => self.apply_outcome(now, outcome, context.started_at, effects),
                    Some(update) if update.equals(&outcome) => {}
                    // The fetch result equals the value before the watch event, so it is probably
                    // outdated and is ignored. If the source has in fact changed back to that value,
                    // the watch or the next poll, which sends no cursor, reports it.
                    Some(update) if update.is_newer_than(&outcome) => unconditional = true,
                    // The fetch result may be older or newer than the watch event. A refetch returns
                    // the current value.
                    Some(_) => refetch = true,
                }
                self.fetch.on_succeeded(refetch);
                let next = if refetch { now } else { self.next_poll(now) };
                self.fetch.schedule(next, refetch || unconditional);
            }
            Err(failure) => self.on_fetch_failed(now, context.dirty, failure, effects),
        }
    }

    /// Handles the outcome of a fetch during which the watch reported no value.
    fn apply_outcome(
        &mut self,
        now: Instant,
        outcome: Outcome<V>,
        fetch_started_at: Instant,
        effects: &mut Vec<Effect<V>>,
    ) {
        let fetch_started_at = Some(fetch_started_at);
        match outcome {
            Outcome::Unchanged => self.on_unchanged(now, effects),
            Outcome::Changed(value) => {
                self.on_reported_value(now, Some(value), fetch_started_at, effects);
            }
            Outcome::Absent => self.on_reported_value(now, None, fetch_started_at, effects),
        }
    }
}

//! Engine inputs: result of a validation.

use crate::{
    engine_state::EngineState,
    inputs_and_effects::{Effect, Report, Session},
    types::{Failure, Value},
};
use std::time::Instant;

impl<V: Value> EngineState<V> {
    /// Handles the result of a validation: publishes an accepted value, or reports the rejection.
    pub(crate) fn on_validated(
        &mut self,
        now: Instant,
        session: Session,
        result: Result<(), Failure>,
        effects: &mut Vec<Effect<V>>,
    ) {
        match result {
            Ok(()) => {
                if let Some((revision, value)) = self.value_state.accept(session) {
                    self.fetch.mark_cursor_outdated();
                    effects.push(Effect::Publish(revision, value));
                    self.mark_confirmed(now, effects);
                }
            }
            Err(failure) => {
                let Self { settings, rng, .. } = self;
                let Some(retry_at) = self.value_state.reject(now, session, &failure, settings, rng)
                else {
                    return;
                };
                if let Some(at) = retry_at {
                    self.fetch.schedule_no_later_than(at);
                }
                self.active_failure = Some(failure.clone());
                let retry_in = retry_at.map(|at| at.saturating_duration_since(now));
                effects.push(Effect::Report(Report::Rejected { failure, retry_in }));
            }
        }
    }
}

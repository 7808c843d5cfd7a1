//! Engine of one source: takes inputs and returns effects. The driver calls it.

use crate::{
    engine_settings::Settings,
    engine_state::{EngineState, Freshness},
    inputs_and_effects::{Effect, Input, Report},
    types::{Revision, Snapshot, Value},
};
use std::time::Instant;

/// State machine of one source: takes inputs and returns the effects that its driver executes.
#[derive(Debug)]
pub struct Engine<V = Snapshot> {
    state: EngineState<V>,
}

impl<V: Value> Engine<V> {
    /// Creates an engine that is not started. `seed` seeds the jitter of its timers; each source
    /// needs a different seed.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        Self { state: EngineState::new(settings, seed, now) }
    }

    /// Resumes from the revision and the value that were published before a restart. The first
    /// effects report the value as stale ([`UNCONFIRMED`](crate::UNCONFIRMED)), until the source
    /// confirms it.
    #[must_use]
    pub fn resume(mut self, revision: Revision, value: Option<V>) -> Self {
        if value.is_some() {
            self.state.freshness = Freshness::Resumed;
        }
        self.state.value_state.resume(revision, value);
        self
    }

    /// Marks the resumed value as pinned ([`Input::Pin`]). Has no effect if no value was resumed.
    #[must_use]
    pub fn pinned(mut self) -> Self {
        self.state.value_state.resume_pinned();
        self
    }

    /// Returns whether a value is pinned.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.state.value_state.is_pinned()
    }

    /// Starts the engine and returns the first effects.
    pub fn start(&mut self, now: Instant) -> Vec<Effect<V>> {
        self.step(now, Input::Tick)
    }

    /// Returns the time at which the driver has to call [`step`](Self::step) with [`Input::Tick`].
    /// Returns `None` after [`Effect::GiveUp`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let Self { state } = self;
        if state.has_given_up {
            return None;
        }
        let fetch = Some(state.fetch.deadline());
        let watch = state.watch.deadline(&state.settings);
        [fetch, watch, state.stale_at()].into_iter().flatten().min()
    }

    /// Returns the time of the next scheduled fetch, or `None` while a fetch is in flight.
    #[must_use]
    pub fn next_fetch(&self) -> Option<Instant> {
        self.state.fetch.next()
    }

    /// Returns the last rejected value, until a value is accepted.
    #[must_use]
    pub fn rejected(&self) -> Option<&V> {
        self.state.value_state.rejected_value()
    }

    /// Handles an input and returns the effects for the driver, in order.
    pub fn step(&mut self, now: Instant, input: Input<V>) -> Vec<Effect<V>> {
        let mut effects = Vec::new();
        let Self { state } = self;
        if state.has_given_up {
            return effects;
        }
        match input {
            Input::Tick => {}
            Input::Fetched(session, result) => {
                if let Some(context) = state.fetch.context(session) {
                    state.on_fetched(now, context, result, &mut effects);
                }
            }
            Input::Armed(session) => {
                if state.watch.arm(session, now) {
                    effects.push(Effect::Report(Report::Watching));
                    // A fetch finds a change that happened before the watch was armed.
                    state.fetch.mark_dirty(now);
                }
            }
            Input::Watched(session, event) => {
                if state.watch.record_event(session, now) {
                    state.on_watch_event(now, event, &mut effects);
                }
            }
            Input::WatchLost(session, failure) => {
                if state.watch.is_current(session) {
                    state.on_watch_lost(now, failure, &mut effects);
                }
            }
            Input::Validated(session, result) => {
                state.on_validated(now, session, result, &mut effects)
            }
            Input::Pin(value) => state.pin(now, value, &mut effects),
            Input::Unpin => state.unpin(now),
            Input::Replaced(settings) => state.on_replaced(now, settings),
            Input::ReloadNow => {
                state.fetch.reload_now(now);
                state.value_state.retry_rejected(now);
                state.watch.reload_now(now);
            }
        }
        if !state.has_given_up {
            state.cancel_overdue(now, &mut effects);
            state.start_due(now, &mut effects);
        }
        effects
    }
}

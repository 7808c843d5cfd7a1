//! State of the engine: settings, the state machines `fetch`, `watch` and `value_state`, freshness
//! and unresolved failure. The handlers of inputs are `impl` blocks in files of their own.

use crate::{
    engine_settings::Settings,
    event_and_fetch_order::ConcurrentUpdate,
    fetch::Fetch,
    inputs_and_effects::{Effect, Session},
    jitter_rng::JitterRng,
    types::{Failure, Value},
    value_state::ValueState,
    watch::Watch,
};
use std::time::Instant;

/// State of the engine.
#[derive(Debug)]
pub(crate) struct EngineState<V> {
    pub(crate) settings: Settings,
    pub(crate) fetch: Fetch,
    pub(crate) watch: Watch,
    pub(crate) value_state: ValueState<V>,
    /// Value that the watch reported while a fetch was in flight. Boxed because it is rare, and the
    /// state of an idle source has to be small.
    pub(crate) concurrent_update: Option<Box<ConcurrentUpdate<V>>>,
    /// Time of the last confirmation of the published value by the source.
    pub(crate) confirmed_at: Instant,
    /// Unresolved failure since the last confirmation. A failed fetch or a rejection replaces an
    /// earlier failure. A transient loss of the watch is recorded only if there is no earlier
    /// failure. Any other loss of the watch is not recorded.
    pub(crate) active_failure: Option<Failure>,
    pub(crate) freshness: Freshness,
    /// Set once the source has confirmed its value. Cleared at the start, by an unpin, and by a
    /// replacement of the source.
    pub(crate) has_confirmed: bool,
    pub(crate) has_given_up: bool,
    last_session: u64,
    pub(crate) rng: JitterRng,
}

/// Freshness that the engine has reported for the published value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The published value was last reported as fresh, or nothing is published.
    Current,
    /// Value from before a restart, whose freshness the engine has not reported yet.
    Resumed,
    /// The value was reported as stale with the reason [`UNCONFIRMED`](crate::UNCONFIRMED).
    Unconfirmed,
    /// The value was reported as stale because of a failure, a crash or silence.
    Stale,
}

impl Freshness {
    /// Returns whether the value is reported as stale for a reason other than
    /// [`UNCONFIRMED`](crate::UNCONFIRMED).
    pub(crate) fn has_cause(self) -> bool {
        match self {
            Self::Stale => true,
            Self::Current | Self::Resumed | Self::Unconfirmed => false,
        }
    }
}

impl<V: Value> EngineState<V> {
    pub(crate) fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        Self {
            fetch: Fetch::new(now),
            watch: Watch::new(settings.strategy),
            settings: settings.clamped(),
            value_state: ValueState::new(),
            concurrent_update: None,
            confirmed_at: now,
            active_failure: None,
            freshness: Freshness::Current,
            has_confirmed: false,
            has_given_up: false,
            last_session: 0,
            rng: JitterRng::new(seed),
        }
    }

    /// Returns a new session: the number that matches the answer of a call to its effect.
    pub(crate) fn next_session(&mut self) -> Session {
        self.last_session += 1;
        Session(self.last_session)
    }

    /// Ends the engine, because the source can never work with its settings.
    pub(crate) fn give_up(&mut self, failure: Failure, effects: &mut Vec<Effect<V>>) {
        self.has_given_up = true;
        effects.push(Effect::GiveUp(failure));
    }
}

//! State machine of one source: when to fetch it, when to watch it, and what to publish.
//!
//! One engine serves polling, realtime and hybrid sources. It is sans-I/O: it reads no clock, does
//! no I/O, and depends neither on tokio nor on WebAssembly. A driver calls [`Engine::start`] once,
//! then [`Engine::step`] for each [`Input`] and at each [`Engine::deadline`]. It executes the
//! returned [`Effect`]s in order.
//!
//! ```
//! use reloader_engine::{
//!     Effect, Engine, Input, Settings,
//!     types::{Outcome, Snapshot, Strategy},
//! };
//! use std::time::{Duration, Instant};
//!
//! let mut now = Instant::now();
//! let settings = Settings::new(Strategy::Polling, Duration::from_secs(10));
//! let mut engine = Engine::<Snapshot>::new(settings, 1, now);
//! let mut effects = engine.start(now);
//! while !effects.iter().any(|effect| matches!(effect, Effect::Fetch { .. })) {
//!     now = engine.deadline().expect("the first poll is scheduled");
//!     effects = engine.step(now, Input::Tick);
//! }
//! ```
//!
//! Three state machines form the engine:
//!
//! - `fetch`: `Due(at)` → `InFlight` → `Due(at)`; fetches the source.
//! - `watch`: `Off`; or `Waiting` for the first fetch, then `Down(retry_at)` → `Opening` → `Live` →
//!   `Down`; watches the source.
//! - `value_state`: the published or pinned value, the value in validation, and the rejected value.
//!
//! # Contract
//!
//! The engine guarantees these properties. Each has a test in `tests/contract` with its number, and
//! the simulation in `sim` checks all of them under random faults.
//!
//! 1. **Convergence.** Intermediate values may be coalesced; the final value of the source is
//!    always published. A fetch follows each arming of a watch, so that no change in between is
//!    lost. A change notification during a fetch causes a refetch. A reconcile poll fetches the
//!    source even while a watch is live.
//! 2. **Revisions only increase**, also across a restart ([`Engine::resume`]).
//! 3. **At least once** across a restart, and **never an older value after a newer one**. Each
//!    answer carries the session number of its request, and the engine ignores late answers. A
//!    fetch result does not replace a value that the watch reported during the fetch.
//! 4. **The cursor advances only after the value is accepted** ([`Effect::Offer`],
//!    [`Input::Judged`]). A value rejected for a transient reason is validated again.
//! 5. **A new value is compared with the last attempted value**, not with the last accepted one.
//!    After a good and a rejected value, the same good value is published again.
//! 6. **Freshness is explicit.** [`Effect::Confirmed`] reports each confirmation by the source,
//!    [`Effect::Stale`] the reason for staleness, and [`Effect::Fresh`] its end. A crash makes the
//!    value stale immediately. A value from before a restart is stale until the source confirms it.
//! 7. **A failure never removes a value.** The last known good value stays published. An absent or
//!    empty value replaces a non-empty one only after a later fetch has confirmed it. The
//!    confirmation takes longer after an outage or a restart.
//! 8. **Faults are isolated.** An engine serves one source, shares no state, and continues after
//!    every failure. Only settings that can never work end it ([`Effect::GiveUp`]). Repeated
//!    crashes cause a quarantine, and its length doubles each time. Plugin events do not end a
//!    quarantine; only an explicit reload does ([`Input::ReloadNow`]).
//! 9. **Every call has a deadline.** This applies to fetches and to opening a watch; a live watch
//!    has a liveness limit.
//! 10. **Uncertainty causes an unconditional fetch**, i.e. one without a cursor. A weak ETag
//!     therefore cannot hide a change that the source has announced.
//! 11. **A pinned value stays published**, whatever the source reports, also across a restart
//!     ([`Input::Pin`], [`Engine::pinned`]). After an unpin, the value of the source is published
//!     again ([`Input::Unpin`]).

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests are the driver: they pass the time")
)]

#[cfg(feature = "decode")]
pub mod decode;
#[cfg(feature = "decode")]
pub mod decode_limits;
pub mod types;

mod backoff;
mod failures;
mod fetch;
mod fetch_result;
mod freshness;
mod mutations;
mod pin;
mod protocol;
mod quarantine;
mod replace;
mod settings;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod value_state;
mod watch;

pub use freshness::UNCONFIRMED;
pub use protocol::{Effect, Input, Report, Role, Session};
pub use settings::Settings;

use backoff::Rng;
use fetch::Fetch;
use fetch_result::ConcurrentUpdate;
use freshness::Freshness;
use mutations::{Mutation, Mutations};
use std::time::{Duration, Instant};
use types::{Failure, Revision, Snapshot, Strategy, Value};
use value_state::ValueState;
use watch::Watch;

/// State machine of one source.
#[derive(Debug)]
pub struct Engine<V = Snapshot> {
    settings: Settings,
    fetch: Fetch,
    watch: Watch,
    value_state: ValueState<V>,
    /// Value that the watch reported while a fetch was in flight. Boxed because it is rare and an
    /// idle source has to be small.
    concurrent_update: Option<Box<ConcurrentUpdate<V>>>,
    /// Time of the last confirmation of the published value by the source.
    confirmed_at: Instant,
    /// Unresolved failure since the last confirmation: the latest failed fetch or rejection,
    /// otherwise the first loss of the watch.
    active_failure: Option<Failure>,
    freshness: Freshness,
    /// Set once the source has confirmed its value. A start, an unpin and a replacement reset it.
    has_confirmed: bool,
    has_given_up: bool,
    last_session: u64,
    rng: Rng,
    mutations: Mutations,
}

impl<V: Value> Engine<V> {
    /// Creates an engine that is not started. `seed` gives its timers a jitter that differs from
    /// other sources.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        Self::with_mutations(settings, seed, now, Mutations::default())
    }

    fn with_mutations(
        mut settings: Settings,
        seed: u64,
        now: Instant,
        mutations: Mutations,
    ) -> Self {
        for (mutation, duration) in [
            (Mutation::NoDeadline, &mut settings.timeout),
            (Mutation::NoLivenessLimit, &mut settings.liveness),
            (Mutation::NoReconcilePoll, &mut settings.reconcile),
        ] {
            if mutations.has(mutation) {
                *duration = Duration::MAX;
            }
        }
        Self {
            fetch: Fetch::new(now, mutations),
            watch: Watch::new(settings.strategy, mutations),
            settings: settings.clamped(),
            value_state: ValueState::new(mutations),
            concurrent_update: None,
            confirmed_at: now,
            active_failure: None,
            freshness: Freshness::Current,
            has_confirmed: false,
            has_given_up: false,
            last_session: 0,
            rng: Rng::new(seed),
            mutations,
        }
    }

    /// Resumes from the revision and the value that were published before a restart. The first
    /// effects report the value as stale ([`UNCONFIRMED`]), until the source confirms it.
    #[must_use]
    pub fn resume(mut self, revision: Revision, value: Option<V>) -> Self {
        if value.is_some() && !self.mutations.has(Mutation::ResumedValueFresh) {
            self.freshness = Freshness::Resumed;
        }
        self.value_state.resume(revision, value);
        self
    }

    /// Marks the resumed value as pinned ([`Input::Pin`]). Without a value there is no pin.
    #[must_use]
    pub fn pinned(mut self) -> Self {
        if !self.mutations.has(Mutation::PinLostOnRestart) {
            self.value_state.resume_pinned();
        }
        self
    }

    /// Returns whether a value is pinned.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.value_state.is_pinned()
    }

    /// Starts the engine and returns the first effects.
    pub fn start(&mut self, now: Instant) -> Vec<Effect<V>> {
        self.step(now, Input::Tick)
    }

    /// Returns the time of the next [`step`](Self::step) with [`Input::Tick`]. Returns `None` after
    /// [`Effect::GiveUp`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.has_given_up {
            return None;
        }
        let fetch = Some(self.fetch.deadline());
        [fetch, self.watch.deadline(&self.settings), self.stale_at()].into_iter().flatten().min()
    }

    /// Returns the time of the next fetch as scheduled now, or `None` while a fetch is in flight.
    #[must_use]
    pub fn next_fetch(&self) -> Option<Instant> {
        self.fetch.next()
    }

    /// Returns the last rejected value, until a value is accepted.
    #[must_use]
    pub fn refused(&self) -> Option<&V> {
        self.value_state.rejected_value()
    }

    /// Handles an input and returns the effects for the driver, in order.
    pub fn step(&mut self, now: Instant, input: Input<V>) -> Vec<Effect<V>> {
        let mut effects = Vec::new();
        if self.has_given_up {
            return effects;
        }
        match input {
            Input::Tick => {}
            Input::Fetched(session, result) => {
                if let Some(context) = self.fetch.context(session) {
                    self.on_fetched(now, context, result, &mut effects);
                }
            }
            Input::Armed(session) => {
                if self.watch.arm(session, now) {
                    effects.push(Effect::Report(Report::Watching));
                    if !self.mutations.has(Mutation::NoFetchAfterArming) {
                        self.fetch.mark_dirty(now);
                    }
                }
            }
            Input::Watched(session, event) => {
                if self.watch.record_event(session, now) {
                    self.on_watch_event(now, event, &mut effects);
                }
            }
            Input::WatchLost(session, failure) => {
                if self.watch.is_current(session) {
                    self.on_watch_lost(now, failure, &mut effects);
                }
            }
            Input::Judged(session, result) => self.on_judged(now, session, result, &mut effects),
            Input::Pin(value) => self.pin(now, value, &mut effects),
            Input::Unpin => self.unpin(now),
            Input::Replaced(settings) => self.on_replaced(now, settings),
            Input::ReloadNow => {
                self.fetch.reload_now(now);
                self.value_state.retry_rejected(now);
                if !self.mutations.has(Mutation::ReloadKeepsWatchQuarantine) {
                    self.watch.reload_now(now);
                }
            }
        }
        if !self.has_given_up {
            self.cancel_overdue(now, &mut effects);
            self.start_due(now, &mut effects);
        }
        effects
    }

    /// Cancels calls that have exceeded their deadline.
    fn cancel_overdue(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        if let Some(session) = self.fetch.overdue_session(now) {
            effects.push(Effect::CancelFetch);
            let timeout_text = self.settings.timeout_text();
            let failure = self.timeout_failure(format!("the source did not answer {timeout_text}"));
            if let Some(context) = self.fetch.context(session) {
                self.on_fetched(now, context, Err(failure), effects);
            }
        }
        if let Some(reason) = self.watch.timeout_reason(now, &self.settings) {
            effects.push(Effect::CloseWatch);
            self.on_watch_lost(now, self.timeout_failure(reason), effects);
            self.fetch.mark_dirty(now);
        }
    }

    /// Starts the calls that are due.
    fn start_due(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        let deadline = now + self.settings.timeout;
        if self.watch.is_due(now) {
            let session = self.next_session();
            self.watch.open(session, deadline);
            effects.push(Effect::OpenWatch(session, self.value_state.cursor()));
        }
        if let Some(unconditional) = self.fetch.due(now) {
            let session = self.next_session();
            self.fetch.start(session, now, deadline);
            let unconditional = unconditional || self.value_state.removal_confirm_at().is_some();
            let unconditional =
                unconditional && !self.mutations.has(Mutation::ConditionalFetchAfterDirty);
            let cursor = if unconditional { None } else { self.value_state.cursor() };
            effects.push(Effect::Fetch(session, cursor));
        }
        self.update_staleness(now, effects);
    }

    /// Ends the engine after a permanent failure.
    fn give_up(&mut self, failure: Failure, effects: &mut Vec<Effect<V>>) {
        self.has_given_up = true;
        effects.push(Effect::GiveUp(failure));
    }

    /// Returns the time of the next poll.
    fn next_poll(&mut self, now: Instant) -> Instant {
        let Settings { strategy, interval, reconcile, .. } = self.settings;
        let period = match (strategy, self.watch.is_live()) {
            (Strategy::Polling, _) => interval,
            (Strategy::Hybrid, false) if !self.mutations.has(Mutation::NoHybridPolling) => interval,
            (Strategy::Realtime, _) | (Strategy::Hybrid, _) => reconcile,
        };
        let next = now + self.fetch.jittered(period, &mut self.rng);
        let earlier = self.value_state.removal_confirm_at().or(self.value_state.retry_at());
        earlier.map_or(next, |at| at.max(now).min(next))
    }

    fn next_session(&mut self) -> Session {
        self.last_session += 1;
        Session(self.last_session)
    }
}

//! State machine of one source: when to read it, when to watch it, and what to publish.
//!
//! One machine serves polling, realtime and hybrid sources. It is sans-I/O: it reads no clock, does no I/O and
//! knows neither tokio nor WebAssembly, and the manifest of this crate shows it. A driver calls
//! [`Engine::start`] once, then [`Engine::step`] for each [`Input`] and whenever [`Engine::deadline`] has
//! passed, and executes the [`Effect`]s in order.
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
//! It consists of three state machines:
//!
//! - `fetch`: `Due(at)` → `InFlight` → `Due(at)`; reads the source.
//! - `watch`: `Off`; or `Waiting` for the first fetch, then `Down(retry_at)` → `Opening` → `Live` → `Down`;
//!   watches it.
//! - `value_state`: the published or pinned value, a value that is validated, and one that was rejected.
//!
//! # The contract
//!
//! What a watcher of sources owes its users. Each point has a test in `tests/contract` that names it, and
//! the simulation in `sim` checks all of them in faulty worlds.
//!
//! 1. **Latest wins, nothing final is lost.** Intermediate values may be merged into one; the last
//!    state of the source always arrives. A fetch follows every opening of a watch, so that no change
//!    falls between; a sign of change while a fetch is in flight means one more fetch; and a slow poll
//!    reconciles even while a watch is live.
//! 2. **A revision** for each source, which only goes up, also across a restart
//!    ([`Engine::resume`]).
//! 3. **At least once** across a restart, **never an older value after a newer one**. Every answer
//!    carries the number of the session that asked, and a late one is thrown away; what was in flight
//!    while the watch delivered a value does not undo it.
//! 4. **The cursor moves only after the value was accepted** ([`Effect::Offer`], [`Input::Judged`]). A
//!    refusal that may go away is tried again.
//! 5. **Compared is the last attempted value**, not the last good one: good, bad, the same good is
//!    published again.
//! 6. **Freshness is explicit**: [`Effect::Confirmed`] whenever the source stands for what is
//!    published, [`Effect::Stale`] with the reason and [`Effect::Fresh`]. After a crash a value is stale
//!    at once; and one from before a restart is so from the start, until the source stands for it.
//! 7. **A failure never clears a value.** Gone, or empty after it was not, is believed only when a read
//!    that is asked for a while later says the same, and later still after an outage or a restart.
//! 8. **Faults are isolated.** An engine knows one source, shares nothing, and goes on after any
//!    failure; only settings that can never work end it ([`Effect::GiveUp`]). What crashes time and
//!    again is in quarantine for a while, longer each time, whatever the plugin announces; only who
//!    insists ends that sooner ([`Input::ReloadNow`]).
//! 9. **Every call has a deadline**: a fetch, the opening of a watch, the silence of a live one.
//! 10. **Overflow or doubt of any kind means: read again**, without the cursor, since a weak ETag
//!     must not hide a change that has been announced.
//! 11. **What is pinned stays**, whatever the source says, also across a restart ([`Input::Pin`],
//!     [`Engine::pinned`]); when it is let go, the source's own value comes through again
//!     ([`Input::Unpin`]).

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "a test is the driver: it passes the time")
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

use backoff::Random;
use fetch::Fetch;
use fetch_result::Overtaking;
use freshness::Freshness;
use mutations::{Bug, Bugs};
use std::time::{Duration, Instant};
use types::{Failure, Revision, Snapshot, Strategy, Value};
use value_state::Ledger;
use watch::Watch;

/// The machine of one source.
#[derive(Debug)]
pub struct Engine<V = Snapshot> {
    settings: Settings,
    fetch: Fetch,
    watch: Watch,
    ledger: Ledger<V>,
    /// What has come while a fetch was in flight, which may answer what was so before. It is rare, and a
    /// source at rest is to be small.
    overtaking: Option<Box<Overtaking<V>>>,
    /// The last time that the source is known to have agreed with what is published.
    good_at: Instant,
    /// Why the source does not stand for what is published, if it is known not to.
    trouble: Option<Failure>,
    freshness: Freshness,
    /// Whether the source has agreed since the start, and since the last pin was taken out.
    has_agreed: bool,
    has_given_up: bool,
    sessions: u64,
    random: Random,
    bugs: Bugs,
}

impl<V: Value> Engine<V> {
    /// A machine that has not been started. `seed` makes its timers differ from other sources'.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        Self::with_bugs(settings, seed, now, Bugs::default())
    }

    fn with_bugs(mut settings: Settings, seed: u64, now: Instant, bugs: Bugs) -> Self {
        for (bug, limit) in [
            (Bug::NoDeadline, &mut settings.timeout),
            (Bug::SilenceTakenForPeace, &mut settings.liveness),
            (Bug::NoReconcile, &mut settings.reconcile),
        ] {
            if bugs.has(bug) {
                *limit = Duration::MAX;
            }
        }
        Self {
            fetch: Fetch::due(now, bugs),
            watch: Watch::new(settings.strategy, bugs),
            settings: settings.bounded(),
            ledger: Ledger::new(bugs),
            overtaking: None,
            good_at: now,
            trouble: None,
            freshness: Freshness::Current,
            has_agreed: false,
            has_given_up: false,
            sessions: 0,
            random: Random::new(seed),
            bugs,
        }
    }

    /// Goes on from what was published before a restart, so that revisions go on from there too. The
    /// value is stale ([`UNCONFIRMED`]) from the first effects on, until the source stands for it.
    #[must_use]
    pub fn resume(mut self, revision: Revision, value: Option<V>) -> Self {
        if value.is_some() && !self.bugs.has(Bug::ResumedTakenForFresh) {
            self.freshness = Freshness::Resumed;
        }
        self.ledger.resume(revision, value);
        self
    }

    /// The value to go on from was pinned before the restart ([`Input::Pin`]), and stays so. Without a
    /// value there is nothing to hold.
    #[must_use]
    pub fn pinned(mut self) -> Self {
        if !self.bugs.has(Bug::PinEndsWithRestart) {
            self.ledger.resume_pinned();
        }
        self
    }

    /// Whether a value is pinned.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.ledger.is_pinned()
    }

    /// The first effects.
    pub fn start(&mut self, now: Instant) -> Vec<Effect<V>> {
        self.step(now, Input::Tick)
    }

    /// When [`step`](Self::step) wants to be called with [`Input::Tick`], if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.has_given_up {
            return None;
        }
        let fetch = Some(self.fetch.deadline());
        [fetch, self.watch.deadline(&self.settings), self.stale_at()].into_iter().flatten().min()
    }

    /// When the source is read next, as far as is known. `None` while it is being read.
    #[must_use]
    pub fn next_fetch(&self) -> Option<Instant> {
        self.fetch.next()
    }

    /// What the source says and was not let through, until something else is.
    #[must_use]
    pub fn refused(&self) -> Option<&V> {
        self.ledger.refused_value()
    }

    /// Takes what happened, and says what to do.
    pub fn step(&mut self, now: Instant, input: Input<V>) -> Vec<Effect<V>> {
        let mut effects = Vec::new();
        if self.has_given_up {
            return effects;
        }
        match input {
            Input::Tick => {}
            Input::Fetched(session, result) => {
                if let Some(in_flight) = self.fetch.answered(session) {
                    self.fetched(now, in_flight, result, &mut effects);
                }
            }
            Input::Armed(session) => {
                if self.watch.armed(session, now) {
                    effects.push(Effect::Report(Report::Watching));
                    if !self.bugs.has(Bug::NoFetchAfterArming) {
                        self.fetch.dirty(now);
                    }
                }
            }
            Input::Watched(session, event) => {
                if self.watch.saw_something(session, now) {
                    self.watched(now, event, &mut effects);
                }
            }
            Input::WatchLost(session, failure) => {
                if self.watch.is(session) {
                    self.watch_lost(now, failure, &mut effects);
                }
            }
            Input::Judged(session, verdict) => self.judged(now, session, verdict, &mut effects),
            Input::Pin(value) => self.pin(now, value, &mut effects),
            Input::Unpin => self.unpin(now),
            Input::Replaced(settings) => self.replaced(now, settings),
            Input::ReloadNow => {
                self.fetch.insist(now);
                self.ledger.insist(now);
                if !self.bugs.has(Bug::InsistingForgetsTheWatch) {
                    self.watch.insist(now);
                }
            }
        }
        if !self.has_given_up {
            self.overdue(now, &mut effects);
            self.act(now, &mut effects);
        }
        effects
    }

    /// Gives up what has taken too long.
    fn overdue(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        if let Some(session) = self.fetch.overdue(now) {
            effects.push(Effect::CancelFetch);
            let waited = self.settings.waited();
            let failure = self.too_late(format!("the source did not answer {waited}"));
            if let Some(in_flight) = self.fetch.answered(session) {
                self.fetched(now, in_flight, Err(failure), effects);
            }
        }
        if let Some(reason) = self.watch.silence(now, &self.settings) {
            effects.push(Effect::CloseWatch);
            self.watch_lost(now, self.too_late(reason), effects);
            self.fetch.dirty(now);
        }
    }

    /// Does what is due.
    fn act(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        let give_up_at = now + self.settings.timeout;
        if self.watch.is_due(now) {
            let session = self.next_session();
            self.watch.open(session, give_up_at);
            effects.push(Effect::OpenWatch(session, self.ledger.cursor()));
        }
        if let Some(announced) = self.fetch.take_due(now) {
            let session = self.next_session();
            self.fetch.begin(session, now, give_up_at);
            let whole = announced || self.ledger.believe_at().is_some();
            let whole = whole && !self.bugs.has(Bug::AnnouncedWithCursor);
            let known = if whole { None } else { self.ledger.cursor() };
            effects.push(Effect::Fetch(session, known));
        }
        self.grow_stale(now, effects);
    }

    fn give_up(&mut self, failure: Failure, effects: &mut Vec<Effect<V>>) {
        self.has_given_up = true;
        effects.push(Effect::GiveUp(failure));
    }

    /// When the source is read next if nothing happens.
    fn next_poll(&mut self, now: Instant) -> Instant {
        let Settings { strategy, interval, reconcile, .. } = self.settings;
        let period = match (strategy, self.watch.is_live()) {
            (Strategy::Polling, _) => interval,
            (Strategy::Hybrid, false) if !self.bugs.has(Bug::HybridDoesNotPoll) => interval,
            (Strategy::Realtime, _) | (Strategy::Hybrid, _) => reconcile,
        };
        let next = now + self.fetch.spread(period, &mut self.random);
        let sooner = self.ledger.believe_at().or(self.ledger.again_at());
        sooner.map_or(next, |at| at.max(now).min(next))
    }

    fn next_session(&mut self) -> Session {
        self.sessions += 1;
        Session(self.sessions)
    }
}

//! When a source is read, when it is watched, and what of it is published.
//!
//! One machine serves the three strategies. It is pure: it reads no clock, does no I/O and knows
//! neither tokio nor WebAssembly. A driver calls [`Engine::start`] once, then [`Engine::step`] for
//! everything that happens and whenever [`Engine::deadline`] has passed, and carries out the
//! [`Effect`]s, in order.
//!
//! Two small machines work side by side:
//!
//! - `fetch`: `Due(at)` → `InFlight` → `Due(at)`; what reads the source.
//! - `watch`: `Off`, or `Down(retry_at)` → `Opening` → `Live` → `Down`; what listens.
//!
//! The rules that they keep, together:
//!
//! - A fetch follows every opening of a watch, so that no change falls between.
//! - A sign of change while a fetch is in flight means one more fetch; what was in flight may be
//!   older than what the watch has delivered since, and is then not published.
//! - A fetch after a sign of change asks without the cursor: a weak ETag cannot hide a change that
//!   has been announced.
//! - Every answer carries the number of the session that asked; a late one is thrown away.
//! - Gone, or empty after it was not, is believed only when it is still so a while later.
//! - A failure never removes anything.

mod backoff;
mod fetch;
mod settings;
#[cfg(test)]
mod tests;
mod watch;

pub use settings::Settings;

use crate::model::{Cursor, Event, Failure, FailureKind, Outcome, Snapshot, Strategy};
use backoff::Random;
use fetch::Fetch;
use std::time::{Duration, Instant};
use watch::Watch;

/// Numbers the fetches and watches of a source, so that a late answer is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session(u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nothing but time.
    Tick,
    /// The answer to [`Effect::Fetch`].
    Fetched(Session, Result<Outcome, Failure>),
    /// The watch of [`Effect::OpenWatch`] is armed: from here on every change gives an event.
    Armed(Session),
    /// The watch has seen something.
    Watched(Session, Event),
    /// The watch could not be armed, or is lost. It is gone already.
    WatchLost(Session, Failure),
    /// Somebody wants the source to be read now.
    ReloadNow,
}

/// What the driver shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Read the source, and answer with [`Input::Fetched`].
    Fetch(Session, Option<Cursor>),
    /// Arm a watch; answer with [`Input::Armed`], then with what it sees, until it is lost.
    OpenWatch(Session, Option<Cursor>),
    /// Drop the watch, and whatever it was doing.
    CloseWatch,
    /// The source has a new value.
    Publish(Snapshot),
    /// For certain, the source has no value any more.
    PublishRemoved,
    /// The published value is older than the source promises, and why.
    Stale(Failure),
    /// The published value is current again.
    Fresh,
    /// Something that an operator may want to know.
    Report(Report),
}

/// Something that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Reading failed.
    FetchFailed {
        /// Why.
        failure: Failure,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// Watching failed, or ended.
    WatchLost {
        /// Why.
        failure: Failure,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The watch is armed.
    Watching,
    /// The source answers again, after it has failed.
    Recovered,
    /// The source answers, but there has never been a value.
    NothingYet,
    /// The source says that there is nothing (left). It is asked again before that is believed.
    Doubt {
        /// When it is asked again.
        ask_again_in: Duration,
    },
}

/// What has been published last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Nothing,
    Value(Snapshot),
    Removed,
}

/// What the source has said that is not believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Doubt {
    said: Option<Snapshot>,
    believe_at: Instant,
}

/// The machine of one source.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    fetch: Fetch,
    watch: Watch,
    known: Known,
    doubt: Option<Doubt>,
    /// The last time that the source is known to have agreed with what is published.
    good_at: Instant,
    /// Whether the source failed since then.
    trouble: Option<Failure>,
    stale: bool,
    sessions: u64,
    random: Random,
}

impl Engine {
    /// A machine that has not been started. `seed` makes its timers differ from other sources'.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        Self {
            fetch: Fetch::due(now),
            watch: match settings.strategy {
                Strategy::Polling => Watch::off(),
                Strategy::Realtime | Strategy::Hybrid => Watch::down(now),
            },
            settings,
            known: Known::Nothing,
            doubt: None,
            good_at: now,
            trouble: None,
            stale: false,
            sessions: 0,
            random: Random::new(seed),
        }
    }

    /// The first effects.
    pub fn start(&mut self, now: Instant) -> Vec<Effect> {
        self.step(now, Input::Tick)
    }

    /// When [`step`](Self::step) wants to be called with [`Input::Tick`], if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.fetch.deadline(), self.watch.deadline(&self.settings), self.stale_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the source is read next, as far as is known. `None` while it is being read.
    #[must_use]
    pub fn next_fetch(&self) -> Option<Instant> {
        self.fetch.deadline()
    }

    /// Takes what happened, and says what to do.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
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
                    self.fetch.dirty(now);
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
            Input::ReloadNow => self.fetch.dirty(now),
        }
        self.silence(now, &mut effects);
        if let Some(failed) = self.watch.failures_if_due(now) {
            let session = self.next_session();
            self.watch = Watch::opening(session, failed);
            effects.push(Effect::OpenWatch(session, self.cursor()));
        }
        if let Some(announced) = self.fetch.take_due(now) {
            let session = self.next_session();
            self.fetch.begin(session);
            let known = if announced || self.doubt.is_some() { None } else { self.cursor() };
            effects.push(Effect::Fetch(session, known));
        }
        if self.stale_at().is_some_and(|at| at <= now) {
            self.stale = true;
            let silence = || Failure::transient("the source has not answered");
            effects.push(Effect::Stale(self.trouble.clone().unwrap_or_else(silence)));
        }
        effects
    }

    fn fetched(
        &mut self,
        now: Instant,
        in_flight: fetch::Answered,
        result: Result<Outcome, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        match result {
            Ok(outcome) => {
                let after_trouble = self.trouble.is_some();
                self.fetch.succeeded();
                // An overtaken answer may be older than what the watch has brought since.
                if !in_flight.overtaken {
                    match outcome {
                        Outcome::Unchanged => self.believe_in_published(now, effects),
                        Outcome::Changed(snapshot) => {
                            self.said(now, Some(snapshot), after_trouble, effects);
                        }
                        Outcome::Absent => self.said(now, None, after_trouble, effects),
                    }
                }
                let next = if in_flight.dirty { now } else { self.next_poll(now) };
                self.fetch.schedule(next, in_flight.dirty);
            }
            Err(failure) => {
                let retry_in = self.fetch.failed(&failure, &mut self.random);
                let retry_in = if in_flight.dirty { Duration::ZERO } else { retry_in };
                self.fetch.schedule(now + retry_in, true);
                self.trouble = Some(failure.clone());
                // What was doubted before an outage has to be said anew after it.
                self.doubt = None;
                effects.push(Effect::Report(Report::FetchFailed { failure, retry_in }));
            }
        }
    }

    fn watched(&mut self, now: Instant, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Alive => {
                // Being connected says that the published value is current only if reading works.
                if self.trouble.is_none() && self.doubt.is_none() {
                    self.good(now, effects);
                }
            }
            Event::Dirty => self.fetch.dirty(now),
            Event::Changed(snapshot) => {
                let after_trouble = self.trouble.is_some();
                self.fetch.overtake();
                self.said(now, Some(snapshot), after_trouble, effects);
            }
            Event::Removed => {
                self.fetch.overtake();
                self.said(now, None, self.trouble.is_some(), effects);
            }
        }
    }

    /// The source has said what its value is: `None` is that there is none.
    fn said(
        &mut self,
        now: Instant,
        said: Option<Snapshot>,
        after_trouble: bool,
        effects: &mut Vec<Effect>,
    ) {
        let had_content = matches!(&self.known, Known::Value(v) if !v.content.is_empty());
        let nothing = said.as_ref().is_none_or(|snapshot| snapshot.content.is_empty());
        if had_content && nothing {
            let doubt = match self.doubt.take() {
                Some(doubt) if doubt.said.is_some() == said.is_some() => doubt,
                // A source that was just restarted may say "nothing" before it has loaded its data.
                _ => {
                    let wait = if after_trouble {
                        self.settings.confirm_after_trouble
                    } else {
                        self.settings.confirm
                    };
                    effects.push(Effect::Report(Report::Doubt { ask_again_in: wait }));
                    Doubt { said: said.clone(), believe_at: now + wait }
                }
            };
            if now < doubt.believe_at {
                self.trouble = None;
                self.fetch.no_later_than(doubt.believe_at);
                self.doubt = Some(doubt);
                return;
            }
        }
        self.doubt = None;
        match (&mut self.known, said) {
            (Known::Value(published), Some(snapshot))
                if published.same_value(&snapshot) && !self.settings.force_reload =>
            {
                published.cursor = snapshot.cursor;
            }
            (known, Some(snapshot)) => {
                *known = Known::Value(snapshot.clone());
                effects.push(Effect::Publish(snapshot));
            }
            (known @ Known::Value(_), None) => {
                *known = Known::Removed;
                effects.push(Effect::PublishRemoved);
            }
            (known @ Known::Nothing, None) => {
                *known = Known::Removed;
                effects.push(Effect::Report(Report::NothingYet));
            }
            (Known::Removed, None) => {}
        }
        self.good(now, effects);
    }

    fn believe_in_published(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.doubt = None;
        if self.settings.force_reload
            && let Known::Value(snapshot) = &self.known
        {
            effects.push(Effect::Publish(snapshot.clone()));
        }
        self.good(now, effects);
    }

    /// The source agrees with what is published.
    fn good(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.good_at = now;
        if self.trouble.take().is_some() {
            effects.push(Effect::Report(Report::Recovered));
        }
        if std::mem::take(&mut self.stale) {
            effects.push(Effect::Fresh);
        }
    }

    fn watch_lost(&mut self, now: Instant, failure: Failure, effects: &mut Vec<Effect>) {
        let retry_in = self.watch.lost(now, &failure, &mut self.random);
        if matches!(failure.kind, FailureKind::Transient { .. }) {
            self.trouble.get_or_insert_with(|| failure.clone());
        }
        effects.push(Effect::Report(Report::WatchLost { failure, retry_in }));
        // Polling takes over: the next fetch may be as far away as the reconciling one was.
        if self.settings.strategy == Strategy::Hybrid {
            let next = self.next_poll(now);
            self.fetch.no_later_than(next);
        }
    }

    /// A watch that has said nothing for too long is opened anew, and the source is read meanwhile.
    fn silence(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if !self.watch.is_silent(now, &self.settings) {
            return;
        }
        effects.push(Effect::CloseWatch);
        let limit = self.settings.liveness;
        let failure = Failure::transient(format!("the watch was silent for {limit:?}"));
        self.watch_lost(now, failure, effects);
        self.fetch.dirty(now);
    }

    /// When the source is read next if nothing happens.
    fn next_poll(&mut self, now: Instant) -> Instant {
        if let Some(doubt) = &self.doubt {
            return doubt.believe_at.max(now);
        }
        let period = match (self.settings.strategy, self.watch.is_live()) {
            (Strategy::Polling, _) | (Strategy::Hybrid, false) => self.settings.interval,
            (Strategy::Realtime, _) | (Strategy::Hybrid, true) => self.settings.reconcile,
        };
        now + self.fetch.spread(period, &mut self.random)
    }

    fn stale_at(&self) -> Option<Instant> {
        match &self.known {
            _ if self.stale => return None,
            Known::Nothing | Known::Removed => return None,
            Known::Value(_) => {}
        }
        // A watch that is live speaks for the value as often as its liveness limit wants it to.
        let promise = if self.watch.is_live() && self.trouble.is_none() {
            self.settings.stale_after.max(self.settings.liveness * 2)
        } else {
            self.settings.stale_after
        };
        self.good_at.checked_add(promise)
    }

    fn cursor(&self) -> Option<Cursor> {
        match &self.known {
            Known::Value(snapshot) => snapshot.cursor.clone(),
            Known::Nothing | Known::Removed => None,
        }
    }

    fn next_session(&mut self) -> Session {
        self.sessions += 1;
        Session(self.sessions)
    }
}

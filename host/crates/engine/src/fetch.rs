//! The machine that reads the source.

use super::{Role, Session, Settings};
use crate::types::{Failure, FailureKind};
use crate::{
    backoff::{Backoff, Random, asked},
    mutations::{Bug, Bugs},
    quarantine::{Crashes, Pause},
};
use std::time::{Duration, Instant};

/// What reads the source.
#[derive(Debug)]
pub(crate) struct Fetch {
    state: State,
    backoff: Backoff,
    crashes: Crashes,
    /// Not to be read before this, whatever is announced: the source has asked for it, or what reads
    /// it has crashed.
    not_before: Option<Instant>,
    /// Whether the timer has been set once: the first period is cut short, see [`Fetch::spread`].
    spread: bool,
    /// Whether a change was announced, or may have been, and no value has come since.
    untold: bool,
    bugs: Bugs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be read at this time. `announced`: the source has said, or may have said, that it changed.
    Due { at: Instant, announced: bool },
    /// Being read.
    InFlight(InFlight),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InFlight {
    session: Session,
    asked_at: Instant,
    give_up_at: Instant,
    dirty: bool,
    outdated: bool,
}

/// What became of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    /// It tells what was so then, or later.
    pub(crate) asked_at: Instant,
    /// The source changed, or may have: read it once more.
    pub(crate) dirty: bool,
    /// Another value was published meanwhile: that nothing has changed means nothing.
    pub(crate) outdated: bool,
}

impl Fetch {
    pub(crate) fn due(at: Instant, bugs: Bugs) -> Self {
        Self {
            state: State::Due { at, announced: true },
            backoff: Backoff::default(),
            crashes: Crashes::new(Role::Reading, bugs),
            not_before: None,
            spread: false,
            untold: true,
            bugs,
        }
    }

    /// When it wants to act.
    pub(crate) fn deadline(&self) -> Instant {
        match self.state {
            State::Due { at, .. } => at,
            State::InFlight(InFlight { give_up_at, .. }) => give_up_at,
        }
    }

    /// When the source is read next; `None` while it is being read.
    pub(crate) fn next(&self) -> Option<Instant> {
        match self.state {
            State::Due { at, .. } => Some(at),
            State::InFlight(_) => None,
        }
    }

    /// If it is time to read: whether the change was announced.
    pub(crate) fn take_due(&self, now: Instant) -> Option<bool> {
        match self.state {
            State::Due { at, announced } if at <= now => Some(announced),
            State::Due { .. } | State::InFlight(_) => None,
        }
    }

    /// If it has taken too long: the session that is given up.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Session> {
        match self.state {
            State::InFlight(InFlight { session, give_up_at, .. }) if give_up_at <= now => {
                Some(session)
            }
            State::InFlight(_) | State::Due { .. } => None,
        }
    }

    pub(crate) fn begin(&mut self, session: Session, asked_at: Instant, give_up_at: Instant) {
        self.not_before = None;
        self.crashes.tried();
        let (dirty, outdated) = (false, false);
        self.state = State::InFlight(InFlight { session, asked_at, give_up_at, dirty, outdated });
    }

    /// Whether there may be a change that neither a read nor the watch has told.
    pub(crate) fn is_untold(&self) -> bool {
        self.untold && !self.bugs.has(Bug::AliveHidesChange)
    }

    /// What became of the fetch, if the answer is one to the question that was asked last.
    pub(crate) fn answered(&self, session: Session) -> Option<Answered> {
        match self.state {
            State::InFlight(InFlight { session: asked, asked_at, dirty, outdated, .. })
                if asked == session || self.bugs.has(Bug::LateAnswerTaken) =>
            {
                Some(Answered { asked_at, dirty, outdated })
            }
            State::InFlight(_) | State::Due { .. } => None,
        }
    }

    /// Reads as soon as the source allows: now, or once more when the present fetch is done.
    pub(crate) fn dirty(&mut self, now: Instant) {
        let soon = self.allowed(now);
        self.untold = true;
        match &mut self.state {
            State::Due { at, announced } => {
                *at = soon.min(*at);
                *announced = true;
            }
            State::InFlight(in_flight) => {
                in_flight.dirty = !self.bugs.has(Bug::DirtyInFlightForgotten);
            }
        }
    }

    /// Somebody insists: neither a quarantine nor what the source has asked for matters.
    pub(crate) fn insist(&mut self, now: Instant) {
        self.crashes.insist();
        self.not_before = None;
        self.dirty(now);
    }

    /// The watch has told what was announced.
    pub(crate) fn told(&mut self) {
        self.untold = false;
    }

    /// Another value is published than when it was asked.
    pub(crate) fn outdated(&mut self) {
        match &mut self.state {
            State::Due { .. } => {}
            State::InFlight(in_flight) => {
                in_flight.outdated = !self.bugs.has(Bug::UnchangedSinceAnyTime);
            }
        }
    }

    /// It was answered. `again`: and something is left to be told.
    pub(crate) fn succeeded(&mut self, again: bool) {
        self.backoff.reset();
        self.crashes.reset();
        self.untold &= again;
    }

    /// Why it is in quarantine, if it is.
    pub(crate) fn quarantine(&self) -> Option<&Failure> {
        self.crashes.quarantine()
    }

    /// How long to wait before it is tried again. At once, or as soon as it is allowed, if the source
    /// has changed meanwhile.
    pub(crate) fn failed(
        &mut self,
        now: Instant,
        failure: &Failure,
        dirty: bool,
        settings: &Settings,
        random: &mut Random,
    ) -> Pause {
        let ignored = self.bugs.has(Bug::RetryAfterIgnored).then(|| Failure::transient("another"));
        let failure = ignored.as_ref().unwrap_or(failure);
        let usual = self.backoff.pause(failure, settings.interval, random);
        if self.bugs.has(Bug::NoBackoff) {
            self.backoff.reset();
        }
        let pause = self.crashes.failed(failure, usual, settings, random);
        // A plugin that announces changes in order to crash again does so no faster.
        let has_crashed = failure.kind == FailureKind::Crashed;
        let at_least = if has_crashed { pause.retry_in } else { asked(failure) };
        let ends = pause.quarantined_after.is_some() && self.bugs.has(Bug::AnnouncedInQuarantine);
        self.not_before = (!at_least.is_zero() && !ends).then(|| now + at_least);
        if dirty { Pause { retry_in: at_least, ..pause } } else { pause }
    }

    pub(crate) fn schedule(&mut self, at: Instant, announced: bool) {
        self.state = State::Due { at, announced };
    }

    /// Reads at this time if it would be read later, and the source allows.
    pub(crate) fn no_later_than(&mut self, latest: Instant) {
        let latest = self.allowed(latest);
        match &mut self.state {
            State::Due { at, .. } => *at = latest.min(*at),
            State::InFlight(_) => {}
        }
    }

    /// This time, or when the source has asked to be read again.
    fn allowed(&self, at: Instant) -> Instant {
        let not_before = self.not_before.filter(|_| !self.bugs.has(Bug::RetryAfterCutShort));
        not_before.map_or(at, |not_before| not_before.max(at))
    }

    /// A period, a little longer or shorter, so that sources drift apart; the first one is a random
    /// share of it, so that sources that were started together do not poll together.
    pub(crate) fn spread(&mut self, period: Duration, random: &mut Random) -> Duration {
        if self.bugs.has(Bug::NoSpread) {
            return period;
        }
        if std::mem::replace(&mut self.spread, true) {
            period.mul_f64(0.95 + random.share() * 0.1)
        } else {
            period.mul_f64(0.1 + random.share() * 0.9)
        }
    }
}

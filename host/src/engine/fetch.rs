//! The machine that reads the source.

use super::{
    Session,
    backoff::{Backoff, Random},
};
use crate::model::Failure;
use std::time::{Duration, Instant};

/// What reads the source.
#[derive(Debug)]
pub(super) struct Fetch {
    state: State,
    backoff: Backoff,
    /// Whether the timer has been set once: the first period is cut short, see [`Fetch::spread`].
    spread: bool,
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
    dirty: bool,
    overtaken: bool,
}

/// What became of a fetch while it was in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    /// The source changed, or may have: read it once more.
    pub(super) dirty: bool,
    /// The watch has delivered a value meanwhile, which may be newer.
    pub(super) overtaken: bool,
}

impl Fetch {
    pub(super) fn due(at: Instant) -> Self {
        Self {
            state: State::Due { at, announced: true },
            backoff: Backoff::default(),
            spread: false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Due { at, .. } => Some(at),
            State::InFlight(_) => None,
        }
    }

    /// If it is time to read: whether the change was announced.
    pub(super) fn take_due(&self, now: Instant) -> Option<bool> {
        match self.state {
            State::Due { at, announced } if at <= now => Some(announced),
            State::Due { .. } | State::InFlight(_) => None,
        }
    }

    pub(super) fn begin(&mut self, session: Session) {
        self.state = State::InFlight(InFlight { session, dirty: false, overtaken: false });
    }

    /// What became of the fetch, if the answer is one to the question that was asked last.
    pub(super) fn answered(&self, session: Session) -> Option<Answered> {
        match self.state {
            State::InFlight(InFlight { session: asked, dirty, overtaken }) if asked == session => {
                Some(Answered { dirty, overtaken })
            }
            State::InFlight(_) | State::Due { .. } => None,
        }
    }

    /// Reads as soon as possible: now, or once more when the present fetch is done.
    pub(super) fn dirty(&mut self, now: Instant) {
        match &mut self.state {
            State::Due { at, announced } => {
                *at = now.min(*at);
                *announced = true;
            }
            State::InFlight(in_flight) => in_flight.dirty = true,
        }
    }

    /// The watch has delivered a value: one that is being fetched may be older.
    pub(super) fn overtake(&mut self) {
        match &mut self.state {
            State::Due { .. } => {}
            State::InFlight(in_flight) => {
                in_flight.dirty = true;
                in_flight.overtaken = true;
            }
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// How long to wait before it is tried again.
    pub(super) fn failed(&mut self, failure: &Failure, random: &mut Random) -> Duration {
        self.backoff.pause(failure, random)
    }

    pub(super) fn schedule(&mut self, at: Instant, announced: bool) {
        self.state = State::Due { at, announced };
    }

    pub(super) fn no_later_than(&mut self, latest: Instant) {
        match &mut self.state {
            State::Due { at, .. } => *at = latest.min(*at),
            State::InFlight(_) => {}
        }
    }

    /// A period, a little longer or shorter, so that sources drift apart; the first one is a random
    /// share of it, so that sources that were started together do not poll together.
    pub(super) fn spread(&mut self, period: Duration, random: &mut Random) -> Duration {
        if std::mem::replace(&mut self.spread, true) {
            period.mul_f64(0.95 + random.share() * 0.1)
        } else {
            period.mul_f64(0.1 + random.share() * 0.9)
        }
    }
}

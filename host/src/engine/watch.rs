//! The machine that listens to the source.

use super::{
    Session, Settings,
    backoff::{Backoff, Random},
};
use crate::model::Failure;
use std::time::{Duration, Instant};

/// A watch that has lived for this long was not one of a series of failures.
const PROVEN: Duration = Duration::from_secs(5);

/// What listens to the source.
#[derive(Debug)]
pub(super) struct Watch {
    state: State,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The strategy does without.
    Off,
    /// Not listening; to be opened at this time.
    Down { retry_at: Instant },
    /// Being opened.
    Opening(Session),
    /// Listening.
    Live { session: Session, since: Instant, heard_at: Instant },
}

impl Watch {
    pub(super) fn off() -> Self {
        Self { state: State::Off, backoff: Backoff::default() }
    }

    pub(super) fn down(retry_at: Instant) -> Self {
        Self { state: State::Down { retry_at }, backoff: Backoff::default() }
    }

    pub(super) fn opening(session: Session, backoff: Backoff) -> Self {
        Self { state: State::Opening(session), backoff }
    }

    pub(super) fn deadline(&self, settings: &Settings) -> Option<Instant> {
        match self.state {
            State::Off | State::Opening(_) => None,
            State::Down { retry_at } => Some(retry_at),
            State::Live { heard_at, .. } => Some(heard_at + settings.liveness),
        }
    }

    /// If it is time to open the watch: the failures that led here.
    pub(super) fn failures_if_due(&self, now: Instant) -> Option<Backoff> {
        match self.state {
            State::Down { retry_at } if retry_at <= now => Some(self.backoff.clone()),
            State::Down { .. } | State::Off | State::Opening(_) | State::Live { .. } => None,
        }
    }

    /// Whether this session is the present one.
    pub(super) fn is(&self, session: Session) -> bool {
        match self.state {
            State::Opening(present) | State::Live { session: present, .. } => present == session,
            State::Off | State::Down { .. } => false,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// Whether it has said nothing for longer than it may.
    pub(super) fn is_silent(&self, now: Instant, settings: &Settings) -> bool {
        match self.state {
            State::Live { heard_at, .. } => heard_at + settings.liveness <= now,
            State::Off | State::Down { .. } | State::Opening(_) => false,
        }
    }

    /// From here on it listens. False for a session that is not the present one.
    pub(super) fn armed(&mut self, session: Session, now: Instant) -> bool {
        let present = self.state == State::Opening(session);
        if present {
            self.state = State::Live { session, since: now, heard_at: now };
        }
        present
    }

    /// It has said something, so it works. False for a session that is not the present one.
    pub(super) fn saw_something(&mut self, session: Session, now: Instant) -> bool {
        match &mut self.state {
            State::Live { session: present, since, heard_at } if *present == session => {
                *heard_at = now;
                // Arming, or one event, proves little: a server may drop its clients right after.
                if now.duration_since(*since) >= PROVEN {
                    self.backoff.reset();
                }
                true
            }
            State::Live { .. } | State::Off | State::Down { .. } | State::Opening(_) => false,
        }
    }

    /// It is lost. How long to wait before it is opened again.
    pub(super) fn lost(
        &mut self,
        now: Instant,
        failure: &Failure,
        random: &mut Random,
    ) -> Duration {
        let pause = self.backoff.pause(failure, random);
        self.state = State::Down { retry_at: now + pause };
        pause
    }
}

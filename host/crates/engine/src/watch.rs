//! The machine that listens to the source.

use super::{Role, Session, Settings};
use crate::types::{Failure, Strategy};
use crate::{
    backoff::{Backoff, Random},
    mutations::{Bug, Bugs},
    quarantine::{Crashes, Pause},
};
use std::time::{Duration, Instant};

/// A watch that has lived for this long was not one of a series of failures.
const PROVEN: Duration = Duration::from_secs(5);

/// What listens to the source.
#[derive(Debug)]
pub(crate) struct Watch {
    state: State,
    backoff: Backoff,
    crashes: Crashes,
    /// Whether one has been armed, ever.
    has_lived: bool,
    bugs: Bugs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The strategy does without.
    Off,
    /// Not before the source has been read once.
    Waiting,
    /// Not listening; to be opened at this time.
    Down { retry_at: Instant },
    /// Being opened.
    Opening { session: Session, give_up_at: Instant },
    /// Listening.
    Live { session: Session, since: Instant, heard_at: Instant },
}

impl Watch {
    pub(crate) fn new(strategy: Strategy, bugs: Bugs) -> Self {
        let state = match strategy {
            Strategy::Polling => State::Off,
            Strategy::Realtime | Strategy::Hybrid => State::Waiting,
        };
        let crashes = Crashes::new(Role::Watching, bugs);
        Self { state, backoff: Backoff::default(), crashes, has_lived: false, bugs }
    }

    pub(crate) fn deadline(&self, settings: &Settings) -> Option<Instant> {
        match self.state {
            State::Off | State::Waiting => None,
            State::Down { retry_at } => Some(retry_at),
            State::Opening { give_up_at, .. } => Some(give_up_at),
            State::Live { heard_at, .. } => Some(heard_at + settings.liveness),
        }
    }

    /// The source has been read, or it was tried.
    pub(crate) fn source_was_read(&mut self, now: Instant) {
        match self.state {
            State::Waiting => self.state = State::Down { retry_at: now },
            State::Off | State::Down { .. } | State::Opening { .. } | State::Live { .. } => {}
        }
    }

    /// Whether it is time to open the watch.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Down { retry_at } => retry_at <= now,
            State::Off | State::Waiting | State::Opening { .. } | State::Live { .. } => false,
        }
    }

    pub(crate) fn open(&mut self, session: Session, give_up_at: Instant) {
        self.crashes.tried();
        self.state = State::Opening { session, give_up_at };
    }

    /// Whether this session is the present one.
    pub(crate) fn is(&self, session: Session) -> bool {
        match self.state {
            State::Opening { session: present, .. } | State::Live { session: present, .. } => {
                present == session || self.bugs.has(Bug::LateEventTaken)
            }
            State::Off | State::Waiting | State::Down { .. } => false,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    pub(crate) fn has_lived(&self) -> bool {
        self.has_lived
    }

    /// Why it must be given up, if it has said nothing for longer than it may.
    pub(crate) fn silence(&self, now: Instant, settings: &Settings) -> Option<String> {
        match self.state {
            State::Opening { give_up_at, .. } => (give_up_at <= now)
                .then(|| format!("the watch could not be opened {}", settings.waited())),
            State::Live { heard_at, .. } => (heard_at + settings.liveness <= now).then(|| {
                format!("the watch was silent: limit `liveness` is {:?}", settings.liveness)
            }),
            State::Off | State::Waiting | State::Down { .. } => None,
        }
    }

    /// From here on it listens. False for a session that is not the present one.
    pub(crate) fn armed(&mut self, session: Session, now: Instant) -> bool {
        match self.state {
            State::Opening { session: present, .. } if present == session => {
                self.state = State::Live { session, since: now, heard_at: now };
                self.has_lived = true;
                if self.bugs.has(Bug::ArmingForgivesCrashes) {
                    self.crashes.reset();
                }
                true
            }
            State::Opening { .. }
            | State::Live { .. }
            | State::Off
            | State::Waiting
            | State::Down { .. } => false,
        }
    }

    /// It has said something, so it works. False for a session that is not the present one.
    pub(crate) fn saw_something(&mut self, session: Session, now: Instant) -> bool {
        let any = self.bugs.has(Bug::LateEventTaken);
        match &mut self.state {
            State::Live { session: present, since, heard_at } if *present == session || any => {
                *heard_at = now;
                // Arming, or one event, proves little: a server may drop its clients right after,
                // and a plugin may crash.
                if now.saturating_duration_since(*since) >= PROVEN {
                    self.backoff.reset();
                    self.crashes.reset();
                }
                true
            }
            State::Live { .. }
            | State::Off
            | State::Waiting
            | State::Down { .. }
            | State::Opening { .. } => false,
        }
    }

    /// Why it is in quarantine, if it is.
    pub(crate) fn quarantine(&self) -> Option<&Failure> {
        self.crashes.quarantine()
    }

    /// Somebody insists: a quarantine ends.
    pub(crate) fn insist(&mut self, now: Instant) {
        if self.crashes.insist()
            && let State::Down { retry_at } = &mut self.state
        {
            *retry_at = now;
        }
    }

    /// It is lost. How long to wait before it is opened again.
    pub(crate) fn lost(
        &mut self,
        now: Instant,
        failure: &Failure,
        settings: &Settings,
        random: &mut Random,
    ) -> Pause {
        let usual = self.backoff.pause(failure, settings.interval, random);
        let pause = self.crashes.failed(failure, usual, settings, random);
        let for_ever = pause.quarantined_after.is_some() && self.bugs.has(Bug::QuarantineForEver);
        self.state = if for_ever || self.bugs.has(Bug::LostWatchStaysClosed) {
            State::Off
        } else {
            State::Down { retry_at: now + pause.retry_in }
        };
        pause
    }
}

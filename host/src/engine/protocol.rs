//! What goes into the engine, and what comes out of it.

use crate::model::{Cursor, Event, Failure, Outcome, Revision, Snapshot};
use std::{fmt, time::Duration};

/// Numbers the questions that are asked, so that a late answer is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session(pub(super) u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<V = Snapshot> {
    /// Nothing but time.
    Tick,
    /// The answer to [`Effect::Fetch`].
    Fetched(Session, Result<Outcome<V>, Failure>),
    /// The watch of [`Effect::OpenWatch`] is armed: from here on every change gives an event.
    Armed(Session),
    /// The watch has seen something.
    Watched(Session, Event<V>),
    /// The watch could not be armed, or is lost. It is gone already.
    WatchLost(Session, Failure),
    /// The answer to [`Effect::Offer`].
    Judged(Session, Result<(), Failure>),
    /// Somebody wants the source to be read now. Also ends a quarantine, and has what was refused judged
    /// again: it may be that something else was wrong.
    ReloadNow,
}

/// What the driver shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<V = Snapshot> {
    /// Read the source, and answer with [`Input::Fetched`].
    Fetch(Session, Option<Cursor>),
    /// Drop the fetch: it has taken too long.
    CancelFetch,
    /// Arm a watch; answer with [`Input::Armed`], then with what it sees, until it is lost.
    OpenWatch(Session, Option<Cursor>),
    /// Drop the watch, and whatever it was doing.
    CloseWatch,
    /// Judge this value, and answer with [`Input::Judged`]: accepted, or refused and why. One that is
    /// still being judged need not be judged any more.
    Offer(Session, V),
    /// The source has a new value, which was accepted.
    Publish(Revision, V),
    /// For certain, the source has no value any more.
    PublishRemoved(Revision),
    /// The source stands for what is published.
    Confirmed,
    /// The published value is older than the source promises, and why. Again while it is, when the
    /// reason becomes a quarantine.
    Stale(Failure),
    /// The published value is current again.
    Fresh,
    /// Something that an operator may want to know.
    Report(Report),
    /// The settings can never work. The engine does nothing more.
    GiveUp(Failure),
}

/// What is done with a source. Each has an instance of its own, and crashes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reading it.
    Reading,
    /// Opening a watch, and listening to it.
    Watching,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reading => "reading",
            Self::Watching => "watching",
        })
    }
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
    /// Reading or watching has crashed too often in a row: it is not tried for a while. This takes
    /// the place of the report of the last failure.
    Quarantined {
        /// What is in quarantine.
        role: Role,
        /// The last crash.
        failure: Failure,
        /// How many there were in a row.
        crashes: u32,
        /// When it is tried again, unless [`Input::ReloadNow`] comes first.
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
    /// The source's value was refused; the one before it stays.
    Refused {
        /// Why.
        failure: Failure,
        /// When the same value is tried again; `None`: only a different one is.
        retry_in: Option<Duration>,
    },
}

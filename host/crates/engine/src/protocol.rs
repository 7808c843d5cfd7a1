//! What goes into the engine, and what comes out of it.

use super::Settings;
use crate::types::{Cursor, Event, Failure, Outcome, Revision, Snapshot};
use std::{fmt, time::Duration};

/// Numbers the questions that are asked, so that a late answer is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session(pub(crate) u64);

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
    /// Somebody wants this value to be the published one, and to stay, whatever the source says. It is
    /// not judged; if it is another one than is published, the effects of this very step have its
    /// [`Effect::Publish`]. The source is still read and watched, for its freshness alone.
    Pin(V),
    /// The source's own value shall come through again: it is read in full. Nothing, if none is pinned.
    Unpin,
    /// The source is another one, with these settings. Whatever was asked of the one before has been
    /// dropped already, and late answers of it are thrown away.
    Replaced(Settings),
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
    /// The source has a new value, which was accepted; or one was pinned. With the latter the source
    /// does not stand for it yet: whether it is stale stays as it was.
    Publish(Revision, V),
    /// For certain, the source has no value any more.
    PublishRemoved(Revision),
    /// The source stands for what is published; or, while a value is pinned, it answers, whatever it
    /// says.
    Confirmed,
    /// The published value is older than the source promises, and why. Again while it is, when the
    /// reason becomes a quarantine, and when there is a better one than [`UNCONFIRMED`](super::UNCONFIRMED).
    /// A pinned value is stale as well when its source does not answer.
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
    /// The source has another value than the one that is pinned, or none. Once, until it has the same.
    HeldBack,
    /// The source's value was refused; the one before it stays.
    Refused {
        /// Why.
        failure: Failure,
        /// When the same value is tried again; `None`: only a different one is.
        retry_in: Option<Duration>,
    },
}

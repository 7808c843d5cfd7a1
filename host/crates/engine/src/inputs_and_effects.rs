//! Inputs and effects: the interface between the engine and its driver.

use crate::{
    engine_settings::Settings,
    types::{Cursor, Event, Failure, Outcome, Revision, Snapshot},
};
use std::{fmt, time::Duration};

/// Session number: identifies a fetch, a watch or a validation. The engine ignores a late answer,
/// which carries an outdated session number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session(pub(crate) u64);

/// Event that the driver passes to [`Engine::step`](crate::Engine::step).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<V = Snapshot> {
    /// Nothing but time has passed: the engine acts on deadlines that have expired.
    Tick,
    /// Result of [`Effect::Fetch`].
    Fetched(Session, Result<Outcome<V>, Failure>),
    /// The watch of [`Effect::OpenWatch`] is armed: it reports every change from now on.
    Armed(Session),
    /// Event of an armed watch.
    Watched(Session, Event<V>),
    /// The watch could not be armed, or has ended. The driver has already dropped it.
    WatchLost(Session, Failure),
    /// Result of the validation that [`Effect::Validate`] requested.
    Validated(Session, Result<(), Failure>),
    /// Explicit reload: fetches immediately, ends a quarantine, and validates a rejected value
    /// again, since the cause of the rejection may be resolved.
    ReloadNow,
    /// Pins a value: publishes it without validation, and keeps it published whatever the source
    /// reports. The effects of the same step contain its [`Effect::Publish`], unless the value is
    /// published already. The engine still fetches and watches the source, but only to report
    /// freshness.
    Pin(V),
    /// Removes the pin and fetches the source without a cursor. No effect without a pin.
    Unpin,
    /// Replaces the source and its settings. The driver has already dropped all calls of the
    /// previous source, and the engine ignores their late answers.
    Replaced(Settings),
}

/// Instruction of the engine that the driver executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<V = Snapshot> {
    /// Fetch the source, with the cursor if there is one. Answer with [`Input::Fetched`].
    Fetch(Session, Option<Cursor>),
    /// Drop the fetch: it has exceeded its deadline.
    CancelFetch,
    /// Open a watch. Answer with [`Input::Armed`], then with [`Input::Watched`] for each event, and
    /// with [`Input::WatchLost`] at the end.
    OpenWatch(Session, Option<Cursor>),
    /// Drop the watch, including one that is still opening.
    CloseWatch,
    /// Validate the value and answer with [`Input::Validated`]. If an earlier validation is still
    /// running, the engine ignores its result.
    Validate(Session, V),
    /// Publish the value under this revision: an accepted value of the source, or a pinned one. The
    /// publication of a pinned value does not confirm it and does not change the freshness.
    Publish(Revision, V),
    /// Publish that the source has no value any more. The removal is confirmed.
    PublishRemoved(Revision),
    /// The source has confirmed the published value. While a value is pinned: the source has
    /// answered.
    Confirmed,
    /// The published value has become stale, for this reason. Repeated for a stale value when a
    /// quarantine becomes the reason, and when a failure replaces
    /// [`UNCONFIRMED`](crate::UNCONFIRMED). A pinned value also becomes stale when its source stops
    /// answering.
    Stale(Failure),
    /// The published value is fresh again.
    Fresh,
    /// Report for the operator.
    Report(Report),
    /// The settings can never work: the source ends. The engine produces no further effects.
    GiveUp(Failure),
}

/// Kind of call to a source. Each kind has its own plugin instance and its own crash count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Calls that fetch the source.
    Reading,
    /// Calls that open a watch and receive its events.
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

/// Report of the engine for the operator; it does not change what is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A fetch failed.
    FetchFailed {
        /// Cause of the failure.
        failure: Failure,
        /// Delay before the retry.
        retry_in: Duration,
    },
    /// A watch failed or ended.
    WatchLost {
        /// Cause of the failure.
        failure: Failure,
        /// Delay before the retry.
        retry_in: Duration,
    },
    /// Fetching or watching is in quarantine after repeated crashes. For the crash that starts the
    /// quarantine, this report replaces [`Self::FetchFailed`] or [`Self::WatchLost`].
    Quarantined {
        /// Kind of call in quarantine.
        role: Role,
        /// Crash that started the quarantine.
        failure: Failure,
        /// Number of consecutive crashes.
        crashes: u32,
        /// Length of the quarantine. [`Input::ReloadNow`] ends it early.
        retry_in: Duration,
    },
    /// The watch is armed: it reports changes from now on.
    Watching,
    /// The source works again after a failure.
    Recovered,
    /// The source works, but has never had a value.
    NoValueYet,
    /// The source reports no value or an empty one. The engine publishes the removal only after a
    /// later fetch has confirmed it.
    RemovalUnconfirmed {
        /// Delay before the fetch that confirms the removal.
        confirm_in: Duration,
    },
    /// The source reports another value than the pinned one, or none. The engine repeats this report
    /// only after the source has reported the pinned value in between.
    DiffersFromPin,
    /// The validator rejected a value. The previous value stays published.
    Rejected {
        /// Reason of the rejection.
        failure: Failure,
        /// Delay before the same value is validated again. `None` after a permanent rejection, which
        /// is not retried.
        retry_in: Option<Duration>,
    },
}

//! Traits of a source plugin and the types of their results.

use crate::{Failure, Host, schema::Schema};
use serde::de::DeserializeOwned;

/// A source that the host can read.
///
/// The host may create any number of instances, and may drop an instance at any time between two calls.
pub trait Reload: Sized {
    /// Settings of the source: a type with the attribute [`settings`](macro@crate::settings).
    type Config: DeserializeOwned + Schema;

    /// Creates an instance from the operator's settings. The host calls this function once, before all
    /// other functions. Validate the settings here. Do not connect here: an unreachable server is a
    /// failure of [`reload`](Self::reload), not of the settings.
    ///
    /// # Errors
    ///
    /// Returns [`Failure::config`] for invalid settings.
    fn new(config: Self::Config, host: &Host) -> Result<Self, Failure>;

    /// Reads the current value. `known` is the cursor of the value that the host already has. With `None`
    /// the host requires the value, so [`Outcome::Unchanged`] is not allowed.
    ///
    /// # Errors
    ///
    /// Returns a failure if the source gives no definite answer. A failure never removes a value.
    fn reload(&mut self, known: Option<&str>) -> Result<Outcome, Failure>;
}

/// A source that also reports changes.
///
/// The host runs the watch in a separate instance. In that instance the host calls `new` and `watch` once,
/// then `next` repeatedly, and never `reload`.
pub trait RealtimeWatch: Reload {
    /// Starts the watch. `known` is the cursor of the value that the host already has. Every change after the
    /// return of this function must lead to an event. The host reads the source after this function returns, so
    /// the watch need not read the value.
    ///
    /// # Errors
    ///
    /// Returns a failure if the watch cannot be set up. The host tries again later, and polls the source
    /// meanwhile. With the strategy `realtime`, a permanent failure ends the source if it has not been watched
    /// before.
    fn watch(&mut self, known: Option<&str>) -> Result<(), Failure>;

    /// Waits for the next event. Returns [`Event::Alive`] after a period without changes if a liveness
    /// check succeeded. The function must return within the host's liveness limit, 60 seconds by default.
    ///
    /// # Errors
    ///
    /// Returns a failure if the watch is lost. The host drops the instance and starts a watch in a new one.
    fn next(&mut self) -> Result<Event, Failure>;
}

/// Result of a read, returned by [`Reload::reload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The value is the one that `known` identifies. Allowed only if `known` is `Some`.
    Unchanged,
    /// The value does not exist. Return this only for a definite answer of the source.
    Absent,
    /// The current value. The host detects and ignores a repeated equal value.
    Changed(Snapshot),
}

/// Event of a watch, returned by [`RealtimeWatch::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The complete new value.
    Changed(Snapshot),
    /// The value may have changed. The host reads the source.
    Dirty,
    /// The value no longer exists. Return this only for a definite answer of the source.
    Removed,
    /// The value has not changed, and a check confirmed that the watch works.
    Alive,
}

/// A complete value at one point in time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Content of the value.
    pub content: Vec<u8>,
    /// Media type of the content, e.g. `application/json`.
    pub media_type: Option<String>,
    /// Opaque position that the host passes back as `known`, e.g. an ETag, a revision or an index.
    pub cursor: Option<String>,
}

impl Snapshot {
    /// Creates a value without media type and cursor.
    #[must_use]
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self { content: content.into(), ..Self::default() }
    }

    /// Sets the media type of the content, e.g. `application/json`.
    #[must_use]
    pub fn media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = Some(media_type.into());
        self
    }

    /// Sets the cursor. The host passes it as `known` to the next read or watch.
    #[must_use]
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }
}

impl From<Snapshot> for Outcome {
    fn from(snapshot: Snapshot) -> Self {
        Self::Changed(snapshot)
    }
}

impl From<Snapshot> for Event {
    fn from(snapshot: Snapshot) -> Self {
        Self::Changed(snapshot)
    }
}

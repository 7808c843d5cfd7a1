//! What a plugin implements, and the words it answers with.

use crate::{Failure, Host, schema::Schema};
use serde::de::DeserializeOwned;

/// A source that can be read.
///
/// The host may make any number of instances, and may drop one at any time between two calls.
pub trait Reload: Sized {
    /// The settings that the operator gives: a type marked with [`settings`](macro@crate::settings).
    type Config: DeserializeOwned + Schema;

    /// Takes the settings. Called once, before anything else; nothing is connected yet, so this is
    /// the place to refuse settings that cannot work, not to find out that a server is down.
    ///
    /// # Errors
    ///
    /// [`Failure::config`] for settings that cannot work, whatever the source does.
    fn new(config: Self::Config, host: &Host) -> Result<Self, Failure>;

    /// Fetches the present value. `known` is the cursor of the value that the host already has; it
    /// is `None` when the host wants the value in any case.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from answering for certain. A failure never removes a value.
    fn reload(&mut self, known: Option<&str>) -> Result<Outcome, Failure>;
}

/// A source that also tells when it changes.
///
/// The host watches in an instance of its own: there `new`, `watch` and then `next`, again and
/// again, are called, and `reload` is not.
pub trait RealtimeWatch: Reload {
    /// Starts to watch. After it has returned, every change leads to an event. The host reads the
    /// source right afterwards, so there is no need to do it here.
    ///
    /// # Errors
    ///
    /// When watching is not possible; the host polls meanwhile, or tries again.
    fn watch(&mut self, known: Option<&str>) -> Result<(), Failure>;

    /// Waits for the next event. Answers [`Event::Alive`] at least once a minute (or as often as the
    /// host's liveness limit wants it), after having made sure that the watch still works.
    ///
    /// # Errors
    ///
    /// When the watch is lost. The instance is dropped, and a new one is asked to watch.
    fn next(&mut self) -> Result<Event, Failure>;
}

/// The answer to [`Reload::reload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The source still holds what `known` stands for. Only where `known` was given.
    Unchanged,
    /// The source says for certain that there is no value.
    Absent,
    /// The present value. Sending an equal one again does no harm.
    Changed(Snapshot),
}

/// What a watch has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The new value, complete.
    Changed(Snapshot),
    /// Something may have changed: the host reads the source.
    Dirty,
    /// The source says for certain that there is no value any more.
    Removed,
    /// Nothing happened, and the watch is known to work.
    Alive,
}

/// A complete value, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The value itself.
    pub content: Vec<u8>,
    /// What it is, e.g. `application/json`.
    pub media_type: Option<String>,
    /// What the host hands back as `known`: an ETag, a revision, an index.
    pub cursor: Option<String>,
}

impl Snapshot {
    /// A value without media type and cursor.
    #[must_use]
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self { content: content.into(), ..Self::default() }
    }

    /// Says what the content is.
    #[must_use]
    pub fn media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = Some(media_type.into());
        self
    }

    /// Sets the plugin's note of what it saw.
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

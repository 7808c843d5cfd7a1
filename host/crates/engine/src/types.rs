//! The words that all modules share: a source's name, its values, and what can happen to them.

use bytes::Bytes;
use std::{fmt, sync::Arc, time::Duration};

/// The name of a source, as the operator chose it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// A name.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host's own number of a source's value: 1 for the first, and only going up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(u64);

impl Revision {
    /// The next one up.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number; 0 before the first value.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Revision {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A source's own note of what it saw: an ETag, a revision, an index. The host never looks inside.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor {
    note: Arc<str>,
    /// Without what is secret, if something in it is.
    shown: Option<Arc<str>>,
}

impl Cursor {
    /// The note, as the source made it.
    pub fn new(note: impl AsRef<str>) -> Self {
        Self { note: note.as_ref().into(), shown: None }
    }

    /// The same note, which is shown to people as this.
    #[must_use]
    pub fn shown_as(mut self, shown: &str) -> Self {
        self.shown = (*self.note != *shown).then(|| shown.into());
        self
    }

    /// As the source made it, for the source.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.note
    }
}

/// As it may be shown.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.shown.as_ref().unwrap_or(&self.note))
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.shown.as_ref().unwrap_or(&self.note), f)
    }
}

/// What has to be known of a value to keep it up to date. A [`Snapshot`] is one; a Rust type that is
/// loaded by Rust code is another.
pub trait Value: Clone {
    /// Whether a reader could not tell the two apart.
    fn same_value(&self, other: &Self) -> bool;

    /// Whether there is nothing in it: suspicious, when there was something before.
    fn is_empty(&self) -> bool {
        false
    }

    /// What the source is asked with the next time.
    fn cursor(&self) -> Option<&Cursor> {
        None
    }
}

/// A complete value of a source, at one moment. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The value itself.
    pub content: Bytes,
    /// What it is, e.g. `application/json`, where the source says.
    pub media_type: Option<Arc<str>>,
    /// What the source is asked with the next time.
    pub cursor: Option<Cursor>,
}

impl Snapshot {
    /// A value of which nothing else is known.
    pub fn new(content: impl Into<Bytes>) -> Self {
        Self { content: content.into(), media_type: None, cursor: None }
    }
}

impl Value for Snapshot {
    fn same_value(&self, other: &Self) -> bool {
        self.content == other.content && self.media_type == other.media_type
    }

    fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }
}

/// The content is left out: it may be a secret, and it may be large.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("bytes", &self.content.len())
            .field("media_type", &self.media_type)
            .field("cursor", &self.cursor)
            .finish()
    }
}

/// What a source answers when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<V = Snapshot> {
    /// Still the value that the cursor stands for.
    Unchanged,
    /// For certain, there is no value.
    Absent,
    /// The present value.
    Changed(V),
}

/// What a watch has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<V = Snapshot> {
    /// The new value.
    Changed(V),
    /// Something may have changed.
    Dirty,
    /// For certain, there is no value any more.
    Removed,
    /// Nothing happened, and the watch works.
    Alive,
}

/// Why a source could not be read or watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to make of it.
    pub kind: FailureKind,
    /// What happened, in words for the operator.
    pub message: Arc<str>,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: message.as_ref().into() }
    }

    /// One that may go away by itself.
    pub fn transient(message: impl AsRef<str>) -> Self {
        Self::new(FailureKind::Transient { retry_after: None }, message)
    }
}

/// What to make of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The settings cannot work, whatever the source does.
    Config,
    /// Something was refused, by the host or by the source.
    Denied,
    /// May go away by itself.
    Transient {
        /// How long the source asked not to be called again.
        retry_after: Option<Duration>,
    },
    /// Will not go away soon.
    Permanent,
    /// The plugin trapped, computed for too long, or did not answer in time; its instance is gone.
    Crashed,
}

impl FailureKind {
    /// Whether the same may work a moment later.
    #[must_use]
    pub fn is_passing(self) -> bool {
        match self {
            Self::Transient { .. } | Self::Crashed => true,
            Self::Config | Self::Denied | Self::Permanent => false,
        }
    }
}

/// How a source is kept up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strategy {
    /// Reads it at an interval.
    #[default]
    Polling,
    /// Waits for its events; reads it after each opening of the watch, and rarely besides.
    Realtime,
    /// Waits for its events, and polls while that does not work.
    Hybrid,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Polling => "polling",
            Self::Realtime => "realtime",
            Self::Hybrid => "hybrid",
        })
    }
}

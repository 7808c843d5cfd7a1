//! Common types: source names, revisions, cursors, values, outcomes, events and failures.

use bytes::Bytes;
use std::{fmt, sync::Arc, time::Duration};

/// Name of a source, chosen by the operator. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// Creates a name.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// Returns the name as a string slice.
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

/// Revision of a source's value, assigned by the host. The first value has revision 1; revisions
/// only increase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(u64);

impl Revision {
    /// Returns the next revision.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the number; 0 before the first value.
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

/// Opaque position of a source, such as an ETag, a version or an index. The source assigns it, and
/// the host does not interpret it.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor {
    text: Arc<str>,
    /// Text for display, with secrets redacted. `None` if it equals `text`.
    display_text: Option<Arc<str>>,
}

impl Cursor {
    /// Creates a cursor from the text that the source assigned.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self { text: text.as_ref().into(), display_text: None }
    }

    /// Sets the text for display, in which secrets are redacted.
    #[must_use]
    pub fn shown_as(mut self, shown: &str) -> Self {
        self.display_text = (*self.text != *shown).then(|| shown.into());
        self
    }

    /// Returns the original text, for requests to the source.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Writes the display text of the cursor, which contains no secrets, or else the cursor itself.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.display_text.as_ref().unwrap_or(&self.text))
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.display_text.as_ref().unwrap_or(&self.text), f)
    }
}

/// Properties of a value that the engine needs. [`Snapshot`] implements it for bytes; a native
/// source can implement it for its own type.
pub trait Value: Clone {
    /// Returns whether subscribers see no difference between the values. Cursors are not compared.
    fn same_value(&self, other: &Self) -> bool;

    /// Returns whether the value is empty. Before an empty value replaces a non-empty one, the
    /// engine confirms the change with a later fetch.
    fn is_empty(&self) -> bool {
        false
    }

    /// Returns the cursor to send with the next fetch.
    fn cursor(&self) -> Option<&Cursor> {
        None
    }
}

/// Complete value of a source at one time. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Content of the value.
    pub content: Bytes,
    /// Media type, e.g. `application/json`, if the source provides one.
    pub media_type: Option<Arc<str>>,
    /// Cursor to send with the next fetch.
    pub cursor: Option<Cursor>,
}

impl Snapshot {
    /// Creates a value without media type and cursor.
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

/// Omits the content, which may be secret or large.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("bytes", &self.content.len())
            .field("media_type", &self.media_type)
            .field("cursor", &self.cursor)
            .finish()
    }
}

/// Answer of a source to a successful fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<V = Snapshot> {
    /// The source still has the value of the cursor that the fetch sent.
    Unchanged,
    /// The source has no value. If it is unknown whether the source has a value, the fetch fails
    /// instead.
    Absent,
    /// Current value.
    Changed(V),
}

/// Event of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<V = Snapshot> {
    /// The source has a new value.
    Changed(V),
    /// The source may have changed: fetch it.
    Dirty,
    /// The source has no value any more. If it is unknown whether the source has a value, the watch
    /// fails instead.
    Removed,
    /// Heartbeat: the watch works, and nothing has changed.
    Alive,
}

/// Failure of a fetch, a watch or a validation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Kind of the failure.
    pub kind: FailureKind,
    /// Cause of the failure, for the operator.
    pub message: Arc<str>,
}

impl Failure {
    /// Creates a failure.
    pub fn new(kind: FailureKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: message.as_ref().into() }
    }

    /// Creates a transient failure without a `retry-after`.
    pub fn transient(message: impl AsRef<str>) -> Self {
        Self::new(FailureKind::Transient { retry_after: None }, message)
    }

    /// Creates a permanent failure: until the source or its settings change, a retry fails as well.
    #[must_use]
    pub fn permanent(message: impl AsRef<str>) -> Self {
        Self::new(FailureKind::Permanent, message)
    }
}

/// Kind of a failure. It determines whether and when the engine retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Invalid settings: the source cannot work with them.
    Config,
    /// Access denied by the host or by the source.
    Denied,
    /// Transient failure: a retry may succeed.
    Transient {
        /// Minimum delay before the retry, as requested by the source.
        retry_after: Option<Duration>,
    },
    /// Permanent failure: a retry soon is unlikely to succeed.
    Permanent,
    /// Crash: the plugin trapped, or exceeded its CPU time, its deadline or its liveness limit. The
    /// host has dropped the plugin instance. A panic of a native source is a crash, too.
    Crashed,
}

impl FailureKind {
    /// Returns whether a retry soon may succeed.
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Transient { .. } | Self::Crashed => true,
            Self::Config | Self::Denied | Self::Permanent => false,
        }
    }
}

/// Update strategy of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strategy {
    /// Fetches the source at an interval.
    #[default]
    Polling,
    /// Watches the source. Fetches it after each opening of the watch and at the reconcile
    /// interval.
    Realtime,
    /// Watches the source as [`Self::Realtime`] does, and polls it at the interval while the watch
    /// is down.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_display_hides_secret() {
        let cursor = Cursor::new("token=secret").shown_as("token=***");
        assert_eq!(cursor.as_str(), "token=secret");
        assert_eq!(format!("{cursor} {cursor:?}"), "token=*** \"token=***\"");
        assert_eq!(Cursor::new("v1").shown_as("v1").to_string(), "v1");
    }

    #[test]
    fn snapshot_debug_omits_content() {
        let snapshot = Snapshot { cursor: Some(Cursor::new("v1")), ..Snapshot::new("secret") };
        let text = "Snapshot { bytes: 6, media_type: None, cursor: Some(\"v1\") }";
        assert_eq!(format!("{snapshot:?}"), text);
    }

    /// A native value type that implements only `same_value` is never empty and has no cursor.
    #[test]
    fn native_value_not_empty_by_default() {
        #[derive(Clone)]
        struct Unit;

        impl Value for Unit {
            fn same_value(&self, _: &Self) -> bool {
                true
            }
        }

        assert!(!Unit.is_empty() && Unit.cursor().is_none());
    }

    /// Messages, logs and metrics contain the displayed names, revisions and strategies.
    #[test]
    fn names_displayed_as_text() {
        let name = SourceName::new("prices");
        assert_eq!((name.as_str(), name.to_string()), ("prices", "prices".into()));
        assert_eq!(Revision::from(7).next().to_string(), "8");
        let strategies = [Strategy::Polling, Strategy::Realtime, Strategy::Hybrid];
        let texts = strategies.map(|strategy| strategy.to_string());
        assert_eq!(texts, ["polling", "realtime", "hybrid"]);
    }

    #[test]
    fn crash_and_transient_failure_are_transient() {
        let transient = FailureKind::Transient { retry_after: None };
        assert!(transient.is_transient() && FailureKind::Crashed.is_transient());
        for kind in [FailureKind::Config, FailureKind::Denied, FailureKind::Permanent] {
            assert!(!kind.is_transient(), "{kind:?}");
        }
    }
}

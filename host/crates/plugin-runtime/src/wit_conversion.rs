//! Conversions between the generated types of the plugin interface (`wit/`) and the host's own types.

use crate::bindings::reloader::plugin::types as wit;
use reloader_engine::types::{Cursor, Event, Failure, FailureKind, Outcome, Snapshot};
use reloader_util::sanitize::prefix;
use std::time::Duration;

/// Message for a failure that a plugin returns with an empty message.
const NO_MESSAGE: &str = "the plugin failed without a message";

impl From<wit::Snapshot> for Snapshot {
    fn from(snapshot: wit::Snapshot) -> Self {
        Self {
            content: snapshot.content.into(),
            media_type: snapshot.media_type.map(Into::into),
            cursor: snapshot.cursor.map(Cursor::new),
        }
    }
}

impl From<&Snapshot> for wit::Snapshot {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            content: snapshot.content.to_vec(),
            media_type: snapshot.media_type.as_deref().map(Into::into),
            cursor: snapshot.cursor.as_ref().map(|cursor| cursor.as_str().into()),
        }
    }
}

impl From<wit::Outcome> for Outcome {
    fn from(outcome: wit::Outcome) -> Self {
        match outcome {
            wit::Outcome::Unchanged => Self::Unchanged,
            wit::Outcome::Absent => Self::Absent,
            wit::Outcome::Changed(snapshot) => Self::Changed(snapshot.into()),
        }
    }
}

impl From<wit::Event> for Event {
    fn from(event: wit::Event) -> Self {
        match event {
            wit::Event::Changed(snapshot) => Self::Changed(snapshot.into()),
            wit::Event::Dirty => Self::Dirty,
            wit::Event::Removed => Self::Removed,
            wit::Event::Alive => Self::Alive,
        }
    }
}

impl From<wit::Failure> for Failure {
    fn from(failure: wit::Failure) -> Self {
        let (kind, message) = match failure {
            wit::Failure::Config(message) => (FailureKind::Config, message),
            wit::Failure::Denied(message) => (FailureKind::Denied, message),
            wit::Failure::Permanent(message) => (FailureKind::Permanent, message),
            wit::Failure::Transient(wit::Retryable { message, retry_after_ms }) => {
                let retry_after = retry_after_ms.map(Duration::from_millis);
                (FailureKind::Transient { retry_after }, message)
            }
        };
        // The message is escaped later, after secrets are redacted.
        let message = prefix(&message);
        Self::new(kind, if message.trim().is_empty() { NO_MESSAGE } else { message })
    }
}

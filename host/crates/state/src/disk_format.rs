//! On-disk format: table definitions and record types.
//!
//! The types here are used for storage only. A change to one of them requires a new [`FORMAT_VERSION`]. A
//! record is a version byte ([`RECORD_VERSION`]) followed by JSON. The content of a value is stored unencoded in a
//! table of its own. The record of the revision contains the digest of the content, with which the content is
//! compared when it is read.

use crate::error::StoreError;
use jiff::Timestamp;
use redb::TableDefinition;
use reloader_engine::types::{Cursor, Snapshot};
use reloader_util::digest::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of the format as a whole: of the tables and their contents.
pub(crate) const FORMAT_VERSION: u64 = 1;
/// Version of the record encoding, in the first byte of each record.
const RECORD_VERSION: u8 = 1;

/// Metadata. The only key is `format`, the format version.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Source name → [`StoredSource`].
pub(crate) const SOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sources");
/// Source name and revision → [`StoredRevision`].
pub(crate) const HISTORY: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("history");
/// Source name and revision → content, if it is stored.
pub(crate) const CONTENTS: TableDefinition<'_, (&str, u64), &[u8]> =
    TableDefinition::new("contents");
/// Source or group name and sink name → [`StoredDelivery`].
pub(crate) const DELIVERIES: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("delivered");
/// Source name → [`StoredRejection`].
pub(crate) const REJECTIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("refused");
/// Source name → content of the rejected value, if it is stored.
pub(crate) const REJECTED_CONTENTS: TableDefinition<'_, &str, &[u8]> =
    TableDefinition::new("refused-contents");

/// Source. Times in all records are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSource {
    /// Last revision. Never decreases.
    pub(crate) revision: u64,
    /// Last time at which the source was known to be configured.
    #[serde(rename = "configured")]
    pub(crate) configured_at: i64,
    /// Revision whose value is pinned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pinned: Option<u64>,
    /// Set if the values of the source are not stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secret: bool,
    /// Cursor for the next fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<StoredCursor>,
}

/// Cursor of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredCursor {
    #[serde(rename = "note")]
    text: String,
    /// Redacted text for display, if the cursor contains a secret.
    #[serde(default, rename = "shown", skip_serializing_if = "Option::is_none")]
    redacted: Option<String>,
}

/// Revision of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRevision {
    pub(crate) at: i64,
    #[serde(rename = "what")]
    pub(crate) event: StoredEvent,
    /// Size of the content, in bytes.
    pub(crate) size: u64,
    /// Digest of the content; `None` for a removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
}

/// Event that created a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StoredEvent {
    Changed,
    Removed,
    RolledBack { to: u64 },
}

/// Last delivery to a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDelivery {
    pub(crate) at: i64,
    pub(crate) revision: u64,
    pub(crate) digest: Digest,
}

/// Last rejected value of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRejection {
    pub(crate) at: i64,
    pub(crate) reason: String,
    /// Size of the content, in bytes.
    pub(crate) size: u64,
    pub(crate) digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
}

impl StoredCursor {
    pub(crate) fn new(cursor: &Cursor) -> Self {
        let shown = cursor.to_string();
        let text = cursor.as_str().to_owned();
        Self { redacted: (shown != text).then_some(shown), text }
    }

    pub(crate) fn to_cursor(&self) -> Cursor {
        let cursor = Cursor::new(&self.text);
        match &self.redacted {
            Some(redacted) => cursor.shown_as(redacted),
            None => cursor,
        }
    }
}

impl StoredRevision {
    /// Describes a value, or its removal. `rolled_back_to` is the earlier revision of a rollback.
    pub(crate) fn new(
        at: Timestamp,
        value: Option<&Snapshot>,
        rolled_back_to: Option<u64>,
    ) -> Self {
        Self {
            at: at.as_millisecond(),
            event: match (value, rolled_back_to) {
                (Some(_), Some(to)) => StoredEvent::RolledBack { to },
                (Some(_), None) => StoredEvent::Changed,
                (None, _) => StoredEvent::Removed,
            },
            size: value.map_or(0, |value| value.content.len() as u64),
            digest: value.map(|value| Digest::of(&value.content)),
            media_type: value.and_then(|value| value.media_type.as_deref().map(str::to_owned)),
        }
    }

    /// Describes a revision that was published, but whose value was not stored and is lost.
    pub(crate) fn without_value(at: i64) -> Self {
        Self { at, event: StoredEvent::Changed, size: 0, digest: None, media_type: None }
    }

    /// Returns whether both revisions have the same value, independent of their times.
    pub(crate) fn has_same_value(&self, other: &Self) -> bool {
        let is_removal = |revision: &Self| revision.event == StoredEvent::Removed;
        self.digest == other.digest
            && self.media_type == other.media_type
            && is_removal(self) == is_removal(other)
    }
}

/// Converts a stored time. An out-of-range time becomes 1970-01-01.
pub(crate) fn to_timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn encode(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![RECORD_VERSION];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| StoreError::Damaged(format!("cannot encode a record: {error}")))?;
    Ok(bytes)
}

/// Decodes the record of a source.
pub(crate) fn decode_source(name: &str, bytes: &[u8]) -> Result<StoredSource, StoreError> {
    decode(&format!("source `{name}`"), bytes)
}

/// Decodes the record of a revision.
pub(crate) fn decode_revision(
    name: &str,
    revision: u64,
    bytes: &[u8],
) -> Result<StoredRevision, StoreError> {
    decode(&format!("revision {revision} of source `{name}`"), bytes)
}

/// Decodes the delivery record of a sink of the source or group `owner`.
pub(crate) fn decode_delivery(
    owner: &str,
    sink: &str,
    bytes: &[u8],
) -> Result<StoredDelivery, StoreError> {
    decode(&format!("sink `{sink}` of `{owner}`"), bytes)
}

/// Decodes the record of a rejected value.
pub(crate) fn decode_rejection(name: &str, bytes: &[u8]) -> Result<StoredRejection, StoreError> {
    decode(&format!("rejected value of source `{name}`"), bytes)
}

/// Decodes a record. `subject` names the record in error messages.
fn decode<T: DeserializeOwned>(subject: &str, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, json)) => serde_json::from_slice(json)
            .map_err(|error| StoreError::Damaged(format!("record of {subject}: {error}"))),
        Some((version, _)) => {
            let message = format!("record of {subject} has unknown version {version}");
            Err(StoreError::Damaged(message))
        }
        None => Err(StoreError::Damaged(format!("record of {subject} is empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_round_trips_and_invalid_bytes_fail() {
        let source = StoredSource {
            revision: 7,
            cursor: Some(StoredCursor::new(&Cursor::new("secret").shown_as("***"))),
            ..StoredSource::default()
        };
        let bytes = encode(&source).expect("the record can be encoded");
        let read: StoredSource = decode("`a`", &bytes).expect("the record can be decoded");
        assert_eq!(read, source);
        let cursor = read.cursor.expect("the cursor is stored").to_cursor();
        assert_eq!((cursor.as_str(), cursor.to_string().as_str()), ("secret", "***"));
        for (bytes, message) in [
            (&b""[..], "record of `a` is empty"),
            (b"\x02{}", "record of `a` has unknown version 2"),
            (b"\x01{}", "record of `a`: missing field `revision` at line 1 column 2"),
        ] {
            let error = decode::<StoredSource>("`a`", bytes).expect_err("the record is invalid");
            assert_eq!(error.to_string(), message);
        }
    }

    /// The field names on disk are part of format version 1.
    #[test]
    fn encoding_of_source_is_stable() {
        let source = StoredSource {
            revision: 7,
            configured_at: 5,
            cursor: Some(StoredCursor::new(&Cursor::new("secret").shown_as("***"))),
            ..StoredSource::default()
        };
        let json = r#"{"revision":7,"configured":5,"cursor":{"note":"secret","shown":"***"}}"#;
        let bytes = encode(&source).expect("the record can be encoded");
        assert_eq!(bytes, [b"\x01", json.as_bytes()].concat());
    }
}

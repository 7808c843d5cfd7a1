//! How what is remembered looks on disk: types of its own, which change only together with a version.
//!
//! A record is a byte for its version, and JSON. Content is stored as it is, apart from the record that
//! describes it; its digest, which is in that record, tells whether it still is what it was.

use crate::{Digest, error::Fault};
use jiff::Timestamp;
use redb::TableDefinition;
use reloader_engine::types::{Cursor, Snapshot};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of the whole: that of the tables, and of what is in them.
pub(crate) const FORMAT: u64 = 1;
/// The version of a record.
const VERSION: u8 = 1;

/// `format`, and nothing else yet.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// By its name: a [`Source`].
pub(crate) const SOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sources");
/// By the source's name and the revision: a [`Happened`].
pub(crate) const HISTORY: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("history");
/// By the same: the content, where there is one and it is stored.
pub(crate) const CONTENTS: TableDefinition<'_, (&str, u64), &[u8]> =
    TableDefinition::new("contents");
/// By the source's name and the sink's: a [`Delivered`].
pub(crate) const DELIVERED: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("delivered");
/// By the source's name: a [`Refused`].
pub(crate) const REFUSED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("refused");
/// By the same: the content that was refused, where it is stored.
pub(crate) const REFUSED_CONTENTS: TableDefinition<'_, &str, &[u8]> =
    TableDefinition::new("refused-contents");

/// A source. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// The last revision. It never goes down.
    pub(crate) revision: u64,
    /// When it was configured last, as far as this host knows.
    pub(crate) configured: i64,
    /// The revision whose value is pinned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pinned: Option<u64>,
    /// Whether its values are not stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secret: bool,
    /// What the source is asked with the next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<Note>,
}

/// A cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    note: String,
    /// As it may be shown, where it has something secret in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shown: Option<String>,
}

/// A revision of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Happened {
    pub(crate) at: i64,
    pub(crate) what: What,
    /// In bytes.
    pub(crate) size: u64,
    /// Of the content; none for a removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    Changed,
    Removed,
    RolledBack { to: u64 },
}

/// What a sink has got last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivered {
    pub(crate) at: i64,
    pub(crate) revision: u64,
    pub(crate) digest: Digest,
}

/// What was refused last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) at: i64,
    pub(crate) reason: String,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
}

impl Note {
    pub(crate) fn of(cursor: &Cursor) -> Self {
        let shown = cursor.to_string();
        let note = cursor.as_str().to_owned();
        Self { shown: (shown != note).then_some(shown), note }
    }

    pub(crate) fn cursor(&self) -> Cursor {
        let cursor = Cursor::new(&self.note);
        match &self.shown {
            Some(shown) => cursor.shown_as(shown),
            None => cursor,
        }
    }
}

impl Happened {
    /// What is remembered of a value, or that there is none.
    pub(crate) fn new(at: Timestamp, value: Option<&Snapshot>, to: Option<u64>) -> Self {
        Self {
            at: at.as_millisecond(),
            what: match (value, to) {
                (Some(_), Some(to)) => What::RolledBack { to },
                (Some(_), None) => What::Changed,
                (None, _) => What::Removed,
            },
            size: value.map_or(0, |value| value.content.len() as u64),
            digest: value.map(|value| Digest::of(&value.content)),
            media_type: value.and_then(|value| value.media_type.as_deref().map(str::to_owned)),
        }
    }
}

/// A time as it is stored; one that cannot be is the earliest.
pub(crate) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn encode(record: &impl Serialize) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| Fault::Damaged(format!("a record cannot be written: {error}")))?;
    Ok(bytes)
}

pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Fault> {
    match bytes.split_first() {
        Some((&VERSION, json)) => serde_json::from_slice(json)
            .map_err(|error| Fault::Damaged(format!("the record of {what}: {error}"))),
        Some((version, _)) => {
            Err(Fault::Damaged(format!("the record of {what} is of the unknown version {version}")))
        }
        None => Err(Fault::Damaged(format!("the record of {what} is empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_nobody_wrote_is_not() {
        let source = Source {
            revision: 7,
            cursor: Some(Note::of(&Cursor::new("secret").shown_as("***"))),
            ..Source::default()
        };
        let bytes = encode(&source).expect("it can be written");
        let read: Source = decode("`a`", &bytes).expect("it can be read");
        assert_eq!(read, source);
        let cursor = read.cursor.expect("it is there").cursor();
        assert_eq!((cursor.as_str(), cursor.to_string().as_str()), ("secret", "***"));
        for (bytes, why) in [
            (&b""[..], "the record of `a` is empty"),
            (b"\x02{}", "the record of `a` is of the unknown version 2"),
            (b"\x01{}", "the record of `a`: missing field `revision` at line 1 column 2"),
        ] {
            let fault = decode::<Source>("`a`", bytes).expect_err("nobody wrote it");
            assert_eq!(fault.to_string(), why);
        }
    }
}

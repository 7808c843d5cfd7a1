//! Value history of the sources: the stored revisions and the contents of their values.

use crate::{
    disk_format::{
        CONTENTS, HISTORY, StoredEvent, StoredRevision, StoredSource, decode_revision, encode,
        to_timestamp,
    },
    error::StoreError,
    retention_settings::Retention,
};
use bytes::Bytes;
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable as _, Table, WriteTransaction};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_util::digest::Digest;
use std::{fmt, sync::Arc};

/// Revision in the history of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionEntry {
    /// Revision number.
    pub revision: Revision,
    /// Time at which the revision was published.
    pub at: Timestamp,
    /// Event that created the revision.
    pub event: HistoryEvent,
    /// Digest of the content; `None` for a removal.
    pub digest: Option<Digest>,
    /// Size of the content, in bytes.
    pub size: u64,
    /// Media type of the content, if the source reports one.
    pub media_type: Option<Arc<str>>,
    /// Set if the content is stored.
    pub is_stored: bool,
}

/// Event that creates a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryEvent {
    /// The source had a new value.
    Changed,
    /// The source no longer had a value.
    Removed,
    /// An operator rolled the source back to an earlier revision.
    RolledBack {
        /// Earlier revision.
        to: Revision,
    },
}

/// Writes the name of the event as shown by the API and the command line.
impl fmt::Display for HistoryEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::RolledBack { .. } => "rolled-back",
        })
    }
}

/// Returns the stored revisions of a source, newest first.
pub(crate) fn revisions(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Vec<RevisionEntry>, StoreError> {
    let name = name.as_str();
    let (history, contents) = (transaction.open_table(HISTORY)?, transaction.open_table(CONTENTS)?);
    let mut entries = Vec::new();
    for entry in history.range((name, 0)..=(name, u64::MAX))?.rev() {
        let (key, record) = entry?;
        let (_, revision) = key.value();
        let stored = decode_revision(name, revision, record.value())?;
        entries.push(RevisionEntry {
            revision: revision.into(),
            at: to_timestamp(stored.at),
            event: match stored.event {
                StoredEvent::Changed => HistoryEvent::Changed,
                StoredEvent::Removed => HistoryEvent::Removed,
                StoredEvent::RolledBack { to } => HistoryEvent::RolledBack { to: to.into() },
            },
            digest: stored.digest,
            size: stored.size,
            media_type: stored.media_type.map(Arc::from),
            is_stored: contents.get((name, revision))?.is_some(),
        });
    }
    Ok(entries)
}

/// Returns the record of a revision, and its value if that is stored. The value has no cursor: the cursor
/// is part of the source's record.
pub(crate) fn revision(
    transaction: &ReadTransaction,
    name: &SourceName,
    revision: Revision,
) -> Result<Option<(StoredRevision, Option<Snapshot>)>, StoreError> {
    let (name, revision) = (name.as_str(), revision.get());
    let history = transaction.open_table(HISTORY)?;
    let Some(record) = history.get((name, revision))? else { return Ok(None) };
    let stored = decode_revision(name, revision, record.value())?;
    let contents = transaction.open_table(CONTENTS)?;
    let Some(content) = contents.get((name, revision))? else { return Ok(Some((stored, None))) };
    let content = content.value();
    if Some(Digest::of(content)) != stored.digest {
        return Err(StoreError::Damaged(format!(
            "content of revision {revision} of source `{name}` does not match its digest"
        )));
    }
    let value = Snapshot {
        content: Bytes::copy_from_slice(content),
        media_type: stored.media_type.as_deref().map(Arc::from),
        cursor: None,
    };
    Ok(Some((stored, Some(value))))
}

/// Tables of the history in a write transaction.
pub(crate) struct HistoryTables<'a> {
    revisions: Table<'a, (&'static str, u64), &'static [u8]>,
    contents: Table<'a, (&'static str, u64), &'static [u8]>,
}

impl<'a> HistoryTables<'a> {
    pub(crate) fn open(transaction: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            revisions: transaction.open_table(HISTORY)?,
            contents: transaction.open_table(CONTENTS)?,
        })
    }

    pub(crate) fn get(
        &self,
        name: &str,
        revision: u64,
    ) -> Result<Option<StoredRevision>, StoreError> {
        let Some(record) = self.revisions.get((name, revision))? else { return Ok(None) };
        decode_revision(name, revision, record.value()).map(Some)
    }

    /// Returns the content of a revision, if it is stored.
    pub(crate) fn content(&self, name: &str, revision: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.contents.get((name, revision))?.map(|content| content.value().to_vec()))
    }

    /// Stores a revision, and its content if `content` is set.
    pub(crate) fn put(
        &mut self,
        name: &str,
        revision: u64,
        stored: &StoredRevision,
        content: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        self.revisions.insert((name, revision), &encode(stored)?[..])?;
        if let Some(content) = content {
            self.contents.insert((name, revision), content)?;
        }
        Ok(())
    }

    /// Deletes the oldest revisions beyond the limits of the history, but never the current one.
    pub(crate) fn trim(
        &mut self,
        name: &str,
        source: &StoredSource,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        let (mut count, mut bytes, mut old) = (0_u32, 0_u64, Vec::new());
        for entry in self.revisions.range((name, 0)..=(name, source.revision))?.rev() {
            let (key, record) = entry?;
            let (_, revision) = key.value();
            let stored = decode_revision(name, revision, record.value())?;
            count += 1;
            bytes = bytes.saturating_add(if source.secret { 0 } else { stored.size });
            let fits = count <= retention.max_revisions && bytes <= retention.max_history_bytes;
            if !fits && revision != source.revision {
                old.push(revision);
            }
        }
        for revision in old {
            self.revisions.remove((name, revision))?;
            self.contents.remove((name, revision))?;
        }
        Ok(())
    }

    /// Deletes the contents of a source, and keeps its revisions.
    pub(crate) fn delete_contents(&mut self, name: &str) -> Result<(), StoreError> {
        delete_all(&mut self.contents, name)
    }

    /// Deletes the revisions of a source and their contents.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), StoreError> {
        delete_all(&mut self.contents, name)?;
        delete_all(&mut self.revisions, name)
    }
}

/// Deletes all entries of a source.
fn delete_all(
    table: &mut Table<'_, (&'static str, u64), &'static [u8]>,
    name: &str,
) -> Result<(), StoreError> {
    let keys = table.range((name, 0)..=(name, u64::MAX))?;
    let revisions: Vec<_> =
        keys.map(|entry| entry.map(|(key, _)| key.value().1)).collect::<Result<_, _>>()?;
    for revision in revisions {
        table.remove((name, revision))?;
    }
    Ok(())
}

//! Read access to the stored state. Reads never wait for the writer.

use crate::{
    error::StoreError,
    records::{self, StoredEvent, StoredRevision, to_timestamp},
};
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_util::digest::Digest;
use std::{collections::BTreeMap, sync::Arc};

/// State that a source restarts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredSource {
    /// Last revision.
    pub revision: Revision,
    /// Value of that revision. `None` if the revision is a removal, or if the value is not stored or is
    /// damaged.
    pub value: Option<Snapshot>,
    /// Set if the revision is a removal.
    pub removed: bool,
    /// Time at which the revision was published.
    pub at: Timestamp,
    /// Revision that the source was rolled back to, if its value is pinned.
    pub pinned: Option<Revision>,
    /// Delivery record of each sink, by sink name.
    pub delivered: BTreeMap<String, DeliveryRecord>,
}

/// Last delivery to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Delivered revision.
    pub revision: Revision,
    /// Digest that the sink reported: of the value, or of the output made from it.
    pub digest: Digest,
    /// Time of the delivery.
    pub at: Timestamp,
}

/// Summary of a stored source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSummary {
    /// Name of the source.
    pub source: SourceName,
    /// Last revision.
    pub revision: Revision,
    /// Revision that the source was rolled back to, if its value is pinned.
    pub pinned: Option<Revision>,
    /// Set if the values of the source are not stored.
    pub secret: bool,
    /// Last time at which the source was known to be configured.
    pub configured_at: Timestamp,
}

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
impl std::fmt::Display for HistoryEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::RolledBack { .. } => "rolled-back",
        })
    }
}

/// Stored record of a rejected value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedEntry {
    /// Reason for the rejection.
    pub reason: String,
    /// Time of the rejection.
    pub at: Timestamp,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content, in bytes.
    pub size: u64,
    /// Media type of the content, if the source reports one.
    pub media_type: Option<Arc<str>>,
    /// Content. `None` if it is secret or over one mebibyte.
    pub content: Option<bytes::Bytes>,
}

/// Returns the state that a source restarts from.
pub(crate) fn restore(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<RestoredSource>, StoreError> {
    let Some(source) = source(transaction, name)? else { return Ok(None) };
    let name = name.as_str();
    let history = transaction.open_table(records::HISTORY)?;
    let key = (name, source.revision);
    // The revision number counts even if the value is lost.
    let known = history.get(key)?.map(|record| {
        let stored = records::decode(&describe(name, source.revision), record.value())?;
        let value = content(transaction, name, source.revision, &stored)?;
        Ok::<(StoredRevision, Option<Snapshot>), StoreError>((stored, value))
    });
    let missing =
        || StoreError::Damaged(format!("source `{name}` has no revision {}", source.revision));
    let (mut value, at, removed) = match known.unwrap_or_else(|| Err(missing())) {
        Ok((stored, value)) => {
            (value, to_timestamp(stored.at), stored.event == StoredEvent::Removed)
        }
        Err(StoreError::Damaged(reason)) => {
            tracing::error!(source = name, error = %reason, "stored value damaged");
            (None, Timestamp::now(), false)
        }
        Err(other) => return Err(other),
    };
    if let (Some(value), Some(cursor)) = (&mut value, &source.cursor) {
        value.cursor = Some(cursor.to_cursor());
    }
    Ok(Some(RestoredSource {
        revision: source.revision.into(),
        value,
        removed,
        at,
        pinned: source.pinned.map(Revision::from),
        delivered: deliveries(transaction, name)?,
    }))
}

/// Returns the value of a revision, without its cursor.
pub(crate) fn value(
    transaction: &ReadTransaction,
    name: &SourceName,
    revision: Revision,
) -> Result<Option<Snapshot>, StoreError> {
    let (name, revision) = (name.as_str(), revision.get());
    let history = transaction.open_table(records::HISTORY)?;
    let Some(record) = history.get((name, revision))? else { return Ok(None) };
    let stored = records::decode(&describe(name, revision), record.value())?;
    content(transaction, name, revision, &stored)
}

/// Returns the stored revisions of a source, newest first.
pub(crate) fn history(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Vec<RevisionEntry>, StoreError> {
    let name = name.as_str();
    let contents = transaction.open_table(records::CONTENTS)?;
    let mut entries = Vec::new();
    let table = transaction.open_table(records::HISTORY)?;
    for stored in table.range((name, 0)..=(name, u64::MAX))?.rev() {
        let (key, record) = stored?;
        let (_, revision) = key.value();
        let stored: StoredRevision = records::decode(&describe(name, revision), record.value())?;
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

/// Returns all stored sources.
pub(crate) fn sources(transaction: &ReadTransaction) -> Result<Vec<SourceSummary>, StoreError> {
    let mut sources = Vec::new();
    for source in transaction.open_table(records::SOURCES)?.iter()? {
        let (name, record) = source?;
        let subject = format!("source `{}`", name.value());
        let source: records::StoredSource = records::decode(&subject, record.value())?;
        sources.push(SourceSummary {
            source: SourceName::new(name.value()),
            revision: source.revision.into(),
            pinned: source.pinned.map(Revision::from),
            secret: source.secret,
            configured_at: to_timestamp(source.configured_at),
        });
    }
    Ok(sources)
}

/// Returns the last rejected value of a source.
pub(crate) fn last_rejection(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<RejectedEntry>, StoreError> {
    let name = name.as_str();
    let table = transaction.open_table(records::REJECTIONS)?;
    let Some(record) = table.get(name)? else { return Ok(None) };
    let subject = format!("rejected value of source `{name}`");
    let rejected: records::StoredRejection = records::decode(&subject, record.value())?;
    let contents = transaction.open_table(records::REJECTED_CONTENTS)?;
    let content = contents.get(name)?.map(|content| bytes::Bytes::copy_from_slice(content.value()));
    Ok(Some(RejectedEntry {
        reason: rejected.reason,
        at: to_timestamp(rejected.at),
        digest: rejected.digest,
        size: rejected.size,
        media_type: rejected.media_type.map(Arc::from),
        content,
    }))
}

fn source(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<records::StoredSource>, StoreError> {
    let table = transaction.open_table(records::SOURCES)?;
    let Some(record) = table.get(name.as_str())? else { return Ok(None) };
    records::decode(&format!("source `{name}`"), record.value()).map(Some)
}

/// Returns the value of a revision, without its cursor: only the current value of a source has one.
fn content(
    transaction: &ReadTransaction,
    name: &str,
    revision: u64,
    stored: &StoredRevision,
) -> Result<Option<Snapshot>, StoreError> {
    let contents = transaction.open_table(records::CONTENTS)?;
    let Some(content) = contents.get((name, revision))? else { return Ok(None) };
    let content = content.value();
    if Some(Digest::of(content)) != stored.digest {
        let subject = describe(name, revision);
        return Err(StoreError::Damaged(format!("content of {subject} does not match its digest")));
    }
    Ok(Some(Snapshot {
        content: bytes::Bytes::copy_from_slice(content),
        media_type: stored.media_type.as_deref().map(Arc::from),
        cursor: None,
    }))
}

/// Returns the delivery records of a source, by sink name.
fn deliveries(
    transaction: &ReadTransaction,
    name: &str,
) -> Result<BTreeMap<String, DeliveryRecord>, StoreError> {
    let mut deliveries = BTreeMap::new();
    for entry in transaction.open_table(records::DELIVERIES)?.range((name, "")..)? {
        let (key, record) = entry?;
        let (source, sink) = key.value();
        if source != name {
            break;
        }
        let subject = format!("sink `{sink}` of source `{name}`");
        let record: records::StoredDelivery = records::decode(&subject, record.value())?;
        let (revision, digest) = (record.revision.into(), record.digest);
        let at = to_timestamp(record.at);
        deliveries.insert(sink.to_owned(), DeliveryRecord { revision, digest, at });
    }
    Ok(deliveries)
}

/// Returns the digest of the last delivery to a sink of the source or group `name`.
pub(crate) fn last_delivery(
    transaction: &ReadTransaction,
    name: &SourceName,
    sink: &str,
) -> Result<Option<Digest>, StoreError> {
    let table = transaction.open_table(records::DELIVERIES)?;
    let Some(record) = table.get((name.as_str(), sink))? else { return Ok(None) };
    let subject = format!("sink `{sink}` of `{name}`");
    let record: records::StoredDelivery = records::decode(&subject, record.value())?;
    Ok(Some(record.digest))
}

/// Describes a revision for an error message.
fn describe(name: &str, revision: u64) -> String {
    format!("revision {revision} of source `{name}`")
}

//! Restored state: the stored state of a source after a restart, and the list of stored sources.

use crate::{
    delivery_records::{self, DeliveryRecord},
    disk_format::{SOURCES, StoredEvent, StoredSource, decode_source, to_timestamp},
    error::StoreError,
    history,
};
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable as _};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use std::collections::BTreeMap;

/// Stored state with which a source starts.
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

/// Returns the stored state with which a source starts.
pub(crate) fn restore(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<RestoredSource>, StoreError> {
    let Some(source) = source(transaction, name)? else { return Ok(None) };
    let revision = Revision::from(source.revision);
    let missing = || StoreError::Damaged(format!("source `{name}` has no revision {revision}"));
    let found = history::revision(transaction, name, revision);
    let (mut value, at, removed) = match found.and_then(|found| found.ok_or_else(missing)) {
        Ok((stored, value)) => {
            (value, to_timestamp(stored.at), stored.event == StoredEvent::Removed)
        }
        // The source continues after this revision, even if the value is lost.
        Err(StoreError::Damaged(reason)) => {
            tracing::error!(source = name.as_str(), error = %reason, "stored value damaged");
            (None, Timestamp::now(), false)
        }
        Err(error @ StoreError::Database(_)) => return Err(error),
    };
    if let (Some(value), Some(cursor)) = (&mut value, &source.cursor) {
        value.cursor = Some(cursor.to_cursor());
    }
    Ok(Some(RestoredSource {
        revision,
        value,
        removed,
        at,
        pinned: source.pinned.map(Revision::from),
        delivered: delivery_records::by_sink(transaction, name)?,
    }))
}

/// Returns the last stored revision of a source.
pub(crate) fn last_revision(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<Revision>, StoreError> {
    Ok(source(transaction, name)?.map(|source| source.revision.into()))
}

fn source(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<StoredSource>, StoreError> {
    let table = transaction.open_table(SOURCES)?;
    let Some(record) = table.get(name.as_str())? else { return Ok(None) };
    decode_source(name.as_str(), record.value()).map(Some)
}

/// Returns a summary of each stored source.
pub(crate) fn sources(transaction: &ReadTransaction) -> Result<Vec<SourceSummary>, StoreError> {
    let mut sources = Vec::new();
    for entry in transaction.open_table(SOURCES)?.iter()? {
        let (name, record) = entry?;
        let source = decode_source(name.value(), record.value())?;
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

//! Write transaction: applies the queued writes of each source, and the set of configured sources.

use crate::{
    delivery_records::DeliveryTable,
    disk_format::{SOURCES, StoredCursor, StoredRevision, StoredSource, decode_source, encode},
    error::StoreError,
    history::HistoryTables,
    last_rejected_value::RejectedTables,
    queued_source_writes::SourceWrites,
    retention_settings::Retention,
    write_request::Record,
};
use jiff::Timestamp;
use redb::{ReadableTable as _, Table, WriteTransaction};
use reloader_engine::types::{Revision, SourceName};
use std::collections::BTreeMap;

/// Selection of the queued records of a source that a transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordSelection {
    All,
    /// Writes the newest record only, and skips the older ones: the disk is nearly full.
    Newest,
}

/// Tables of the database, open in one write transaction.
pub(crate) struct Tables<'a> {
    sources: Table<'a, &'static str, &'static [u8]>,
    history: HistoryTables<'a>,
    deliveries: DeliveryTable<'a>,
    rejected: RejectedTables<'a>,
}

impl<'a> Tables<'a> {
    /// Opens the tables. Creates those that do not exist.
    pub(crate) fn open(transaction: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            sources: transaction.open_table(SOURCES)?,
            history: HistoryTables::open(transaction)?,
            deliveries: DeliveryTable::open(transaction)?,
            rejected: RejectedTables::open(transaction)?,
        })
    }

    /// Applies the queued writes of one source to the database.
    pub(crate) fn apply(
        &mut self,
        name: &SourceName,
        writes: &SourceWrites,
        selection: RecordSelection,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let name = name.as_str();
        if writes.forget.is_some() {
            self.forget(name)?;
        }
        let source = self.source(name)?;
        let is_new = source.is_none();
        let before = source.unwrap_or_default();
        let mut after = before.clone();
        if let Some(lost) = writes.lost {
            // The deliveries of the revisions that were not stored are not recorded either.
            self.deliveries.delete_all()?;
            self.continue_after(name, &mut after, lost.get(), now)?;
        }
        let skipped = match selection {
            RecordSelection::All => 0,
            RecordSelection::Newest => writes.records.len().saturating_sub(1),
        };
        for (record, _) in writes.records.iter().skip(skipped) {
            self.record(name, &mut after, record, retention)?;
        }
        let has_records = !writes.records.is_empty() || writes.lost.is_some();
        if has_records {
            self.history.trim(name, &after, retention)?;
            after.configured_at = now.as_millisecond();
        }
        if let Some(pinned) = writes.pinned {
            after.pinned = pinned.map(Revision::get);
        }
        let has_changes = has_records || writes.pinned.is_some();
        if after != before && (has_changes || !is_new) {
            self.put_source(name, &after)?;
        }
        // Deliveries and rejected values do not need a source record: a group has no values, and the first
        // value of a source may be rejected.
        self.deliveries.put(name, &writes.deliveries)?;
        if let Some(rejected) = &writes.rejected {
            let secret =
                rejected.secret || before.secret || after.secret || !retention.store_values;
            self.rejected.put(name, rejected, secret)?;
        }
        Ok(())
    }

    /// Continues the revisions of a source after `lost`, a revision whose value is lost. The last stored value
    /// is stored again under the revision after `lost`. If the source has no stored value, the revision `lost` is
    /// added without a value.
    fn continue_after(
        &mut self,
        name: &str,
        source: &mut StoredSource,
        lost: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if lost <= source.revision {
            return Ok(());
        }
        let at = now.as_millisecond();
        let Some(last) = self.history.get(name, source.revision)? else {
            source.revision = lost;
            return self.history.put(name, lost, &StoredRevision::without_value(at), None);
        };
        let content = self.history.content(name, source.revision)?;
        let again = StoredRevision { at, ..last };
        source.revision = lost.saturating_add(1);
        self.history.put(name, source.revision, &again, content.as_deref())
    }

    /// Adds a revision to the history of a source, and updates the record of the source.
    fn record(
        &mut self,
        name: &str,
        source: &mut StoredSource,
        record: &Record,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        let to = record.rolled_back_to.map(Revision::get);
        let stored = StoredRevision::new(record.at, record.value.as_ref(), to);
        // Revisions only increase, even if the host did not restore the source before this record.
        let requested = record.revision.get();
        let revision = if requested > source.revision {
            requested
        } else if self
            .history
            .get(name, source.revision)?
            .is_some_and(|last| last.has_same_value(&stored))
        {
            source.revision
        } else {
            let last = source.revision;
            tracing::debug!(
                source = name,
                requested,
                last,
                "revision not above the last stored one, using the next revision"
            );
            source.revision.saturating_add(1)
        };
        // A record does not end the secrecy of a source. Only a new configuration does (`set_configured`).
        let secret = record.secret || source.secret || !retention.store_values;
        if secret && !source.secret {
            self.delete_contents(name)?;
        }
        let value = record.value.as_ref().filter(|_| !secret);
        source.revision = revision;
        source.pinned = to;
        source.secret = secret;
        source.cursor = value.and_then(|value| value.cursor.as_ref()).map(StoredCursor::new);
        self.history.put(name, revision, &stored, value.map(|value| &value.content[..]))
    }

    /// Applies the set of configured sources. The flag of a source is set if its values are secret. Deletes
    /// removed sources beyond [`Retention::keep_removed`] and [`Retention::max_removed`].
    pub(crate) fn set_configured(
        &mut self,
        configured: &BTreeMap<SourceName, bool>,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let now = now.as_millisecond();
        let (mut present, mut removed) = (Vec::new(), Vec::new());
        for entry in self.sources.iter()? {
            let (name, record) = entry?;
            let source = decode_source(name.value(), record.value())?;
            match configured.get(&SourceName::new(name.value())) {
                Some(secret) => present.push((name.value().to_owned(), source, *secret)),
                None => removed.push((source.configured_at, name.value().to_owned())),
            }
        }
        for (name, mut source, secret) in present {
            if secret && !source.secret {
                self.delete_contents(&name)?;
                source.cursor = None;
            }
            source.secret = secret;
            source.configured_at = now;
            self.put_source(&name, &source)?;
        }
        self.forget_orphaned_records(configured)?;
        removed.sort();
        let keep = i64::try_from(retention.keep_removed.as_millis()).unwrap_or(i64::MAX);
        let too_many = removed.len().saturating_sub(retention.max_removed as usize);
        for (index, (configured_at, name)) in removed.iter().enumerate() {
            if index < too_many || configured_at.saturating_add(keep) < now {
                tracing::info!(source = %name, "state of removed source deleted");
                self.forget(name)?;
            }
        }
        Ok(())
    }

    /// Deletes delivery records and rejected values of names that are neither configured nor stored
    /// sources.
    fn forget_orphaned_records(
        &mut self,
        configured: &BTreeMap<SourceName, bool>,
    ) -> Result<(), StoreError> {
        let mut names = self.deliveries.owners()?;
        names.extend(self.rejected.sources()?);
        names.sort();
        names.dedup();
        for name in names {
            if !configured.contains_key(&SourceName::new(&name)) && self.source(&name)?.is_none() {
                self.forget(&name)?;
            }
        }
        Ok(())
    }

    fn source(&self, name: &str) -> Result<Option<StoredSource>, StoreError> {
        let Some(record) = self.sources.get(name)? else { return Ok(None) };
        decode_source(name, record.value()).map(Some)
    }

    fn put_source(&mut self, name: &str, source: &StoredSource) -> Result<(), StoreError> {
        self.sources.insert(name, &encode(source)?[..])?;
        Ok(())
    }

    /// Deletes all state of a source, including its revision number.
    fn forget(&mut self, name: &str) -> Result<(), StoreError> {
        self.history.delete(name)?;
        self.deliveries.delete(name)?;
        self.rejected.delete(name)?;
        self.sources.remove(name)?;
        Ok(())
    }

    /// Deletes the stored contents of a source that has become secret.
    fn delete_contents(&mut self, name: &str) -> Result<(), StoreError> {
        self.history.delete_contents(name)?;
        self.rejected.delete_content(name)
    }
}

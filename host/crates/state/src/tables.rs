//! Tables of the database in a write transaction: applies write sets and enforces the limits.

use crate::{
    error::StoreError,
    record::{Record, RejectedValue},
    records::{self, StoredCursor, StoredDelivery, StoredRejection, StoredRevision, StoredSource},
    settings::Settings,
    write_set::{Delivery, MAX_DELIVERY_RECORDS_PER_SOURCE, MAX_REJECTED_CONTENT_BYTES, WriteSet},
};
use jiff::Timestamp;
use redb::{ReadableTable as _, Table, WriteTransaction};
use reloader_engine::types::{Revision, SourceName};
use reloader_util::digest::Digest;
use std::collections::BTreeMap;

/// Tables of the database, open in one write transaction.
pub(crate) struct Tables<'a> {
    pub(crate) sources: Table<'a, &'static str, &'static [u8]>,
    history: Table<'a, (&'static str, u64), &'static [u8]>,
    contents: Table<'a, (&'static str, u64), &'static [u8]>,
    deliveries: Table<'a, (&'static str, &'static str), &'static [u8]>,
    rejections: Table<'a, &'static str, &'static [u8]>,
    rejected_contents: Table<'a, &'static str, &'static [u8]>,
}

impl<'a> Tables<'a> {
    pub(crate) fn open(transaction: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            sources: transaction.open_table(records::SOURCES)?,
            history: transaction.open_table(records::HISTORY)?,
            contents: transaction.open_table(records::CONTENTS)?,
            deliveries: transaction.open_table(records::DELIVERIES)?,
            rejections: transaction.open_table(records::REJECTIONS)?,
            rejected_contents: transaction.open_table(records::REJECTED_CONTENTS)?,
        })
    }

    /// Applies the write set of one source.
    pub(crate) fn write(
        &mut self,
        name: &SourceName,
        write_set: &WriteSet,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let name = name.as_str();
        if write_set.forget.is_some() {
            self.forget(name)?;
        }
        let source = self.source(name)?;
        let is_new = source.is_none();
        let before = source.unwrap_or_default();
        let mut after = before.clone();
        for (record, _) in &write_set.records {
            self.record(name, &mut after, record, settings)?;
        }
        if !write_set.records.is_empty() {
            self.trim(name, &after, settings)?;
            after.configured_at = now.as_millisecond();
        }
        if let Some(pinned) = write_set.pinned {
            after.pinned = pinned.map(Revision::get);
        }
        let has_changes = !write_set.records.is_empty() || write_set.pinned.is_some();
        if after != before && (has_changes || !is_new) {
            self.put(name, &after)?;
        }
        // Written without a source record as well: a group has no values, and the first value of a source
        // may be rejected.
        self.put_deliveries(name, &write_set.deliveries)?;
        if let Some(rejected) = &write_set.rejected {
            self.put_rejection(name, before.secret || after.secret, rejected, settings)?;
        }
        Ok(())
    }

    pub(crate) fn source(&self, name: &str) -> Result<Option<StoredSource>, StoreError> {
        let Some(record) = self.sources.get(name)? else { return Ok(None) };
        records::decode(&format!("source `{name}`"), record.value()).map(Some)
    }

    pub(crate) fn put(&mut self, name: &str, source: &StoredSource) -> Result<(), StoreError> {
        self.sources.insert(name, &records::encode(source)?[..])?;
        Ok(())
    }

    fn record(
        &mut self,
        name: &str,
        source: &mut StoredSource,
        record: &Record,
        settings: &Settings,
    ) -> Result<(), StoreError> {
        let to = record.rolled_back_to.map(Revision::get);
        let stored = StoredRevision::new(record.at, record.value.as_ref(), to);
        // Revisions only increase, even if the host did not restore the source before this record.
        let requested = record.revision.get();
        let revision = if requested > source.revision {
            requested
        } else if self
            .revision(name, source.revision)?
            .is_some_and(|last| last.has_same_value(&stored))
        {
            source.revision
        } else {
            let last = source.revision;
            tracing::debug!(source = name, requested, last, "revision raised above the last one");
            source.revision.saturating_add(1)
        };
        // Only a new configuration makes a secret source storable again.
        let secret = record.secret || source.secret || !settings.store_values;
        if secret && !source.secret {
            self.delete_values(name)?;
        }
        source.revision = revision;
        source.pinned = to;
        source.secret = secret;
        source.cursor = None;
        self.history.insert((name, revision), &records::encode(&stored)?[..])?;
        if let (Some(value), false) = (&record.value, secret) {
            source.cursor = value.cursor.as_ref().map(StoredCursor::new);
            self.contents.insert((name, revision), &value.content[..])?;
        }
        Ok(())
    }

    fn revision(&self, name: &str, revision: u64) -> Result<Option<StoredRevision>, StoreError> {
        let Some(record) = self.history.get((name, revision))? else { return Ok(None) };
        let subject = format!("revision {revision} of source `{name}`");
        records::decode(&subject, record.value()).map(Some)
    }

    /// Deletes the oldest revisions beyond the limits of the history, but never the current one.
    fn trim(
        &mut self,
        name: &str,
        source: &StoredSource,
        settings: &Settings,
    ) -> Result<(), StoreError> {
        let (mut count, mut bytes, mut old) = (0_u32, 0_u64, Vec::new());
        for stored in self.history.range((name, 0)..=(name, source.revision))?.rev() {
            let (key, record) = stored?;
            let (_, revision) = key.value();
            let subject = format!("revision {revision} of source `{name}`");
            let stored: StoredRevision = records::decode(&subject, record.value())?;
            count += 1;
            bytes = bytes.saturating_add(if source.secret { 0 } else { stored.size });
            let fits = count <= settings.history && bytes <= settings.history_size.0;
            if !fits && revision != source.revision {
                old.push(revision);
            }
        }
        for revision in old {
            self.history.remove((name, revision))?;
            self.contents.remove((name, revision))?;
        }
        Ok(())
    }

    /// Stores deliveries, and deletes the oldest delivery records beyond the limit.
    fn put_deliveries(
        &mut self,
        name: &str,
        deliveries: &BTreeMap<String, Delivery>,
    ) -> Result<(), StoreError> {
        if deliveries.is_empty() {
            return Ok(());
        }
        for (sink, Delivery { at, revision, digest }) in deliveries {
            let at = at.as_millisecond();
            let record = StoredDelivery { at, revision: revision.get(), digest: *digest };
            self.deliveries.insert((name, &sink[..]), &records::encode(&record)?[..])?;
        }
        let mut known = Vec::new();
        for delivery in self.deliveries.range((name, "")..)? {
            let (key, record) = delivery?;
            let (source, sink) = key.value();
            if source != name {
                break;
            }
            let record: StoredDelivery =
                records::decode(&format!("sink `{sink}`"), record.value())?;
            known.push((record.at, sink.to_owned()));
        }
        known.sort();
        let old = known.len().saturating_sub(MAX_DELIVERY_RECORDS_PER_SOURCE);
        for (_, sink) in &known[..old] {
            self.deliveries.remove((name, &sink[..]))?;
        }
        Ok(())
    }

    /// Stores the last rejected value of a source.
    fn put_rejection(
        &mut self,
        name: &str,
        is_secret_source: bool,
        rejected: &RejectedValue,
        settings: &Settings,
    ) -> Result<(), StoreError> {
        let RejectedValue { value, at, reason, secret } = rejected;
        // A reason may quote the value.
        let secret = *secret || is_secret_source || !settings.store_values;
        let reason = if secret { "(not stored)" } else { reason };
        let record = StoredRejection {
            at: at.as_millisecond(),
            reason: reloader_util::sanitize::sanitize(reason),
            size: value.content.len() as u64,
            digest: Digest::of(&value.content),
            media_type: value.media_type.as_deref().map(str::to_owned),
        };
        self.rejections.insert(name, &records::encode(&record)?[..])?;
        if secret || value.content.len() > MAX_REJECTED_CONTENT_BYTES {
            self.rejected_contents.remove(name)?;
        } else {
            self.rejected_contents.insert(name, &value.content[..])?;
        }
        Ok(())
    }

    /// Deletes all state of a source, including its revision number.
    pub(crate) fn forget(&mut self, name: &str) -> Result<(), StoreError> {
        self.delete_values(name)?;
        let mut revisions = Vec::new();
        for stored in self.history.range((name, 0)..=(name, u64::MAX))? {
            revisions.push(stored?.0.value().1);
        }
        for revision in revisions {
            self.history.remove((name, revision))?;
        }
        let mut sinks = Vec::new();
        for delivery in self.deliveries.range((name, "")..)? {
            let (key, _) = delivery?;
            let (source, sink) = key.value();
            if source != name {
                break;
            }
            sinks.push(sink.to_owned());
        }
        for sink in sinks {
            self.deliveries.remove((name, &sink[..]))?;
        }
        self.rejections.remove(name)?;
        self.sources.remove(name)?;
        Ok(())
    }

    /// Deletes the stored values of a source that has become secret.
    pub(crate) fn delete_values(&mut self, name: &str) -> Result<(), StoreError> {
        let mut revisions = Vec::new();
        for content in self.contents.range((name, 0)..=(name, u64::MAX))? {
            revisions.push(content?.0.value().1);
        }
        for revision in revisions {
            self.contents.remove((name, revision))?;
        }
        self.rejected_contents.remove(name)?;
        Ok(())
    }
}

impl Tables<'_> {
    /// Deletes delivery and rejection records of names that are neither configured nor stored sources.
    fn forget_orphaned_records(
        &mut self,
        configured: &BTreeMap<SourceName, bool>,
    ) -> Result<(), StoreError> {
        let mut orphaned = Vec::new();
        let mut check = |name: &str| {
            if !configured.contains_key(&SourceName::new(name)) && self.source(name)?.is_none() {
                orphaned.push(name.to_owned());
            }
            Ok::<(), StoreError>(())
        };
        for delivery in self.deliveries.iter()? {
            check(delivery?.0.value().0)?;
        }
        for rejection in self.rejections.iter()? {
            check(rejection?.0.value())?;
        }
        orphaned.dedup();
        for name in orphaned {
            self.forget(&name)?;
        }
        Ok(())
    }

    /// Applies the set of configured sources, and deletes sources that were removed long ago.
    pub(crate) fn set_configured(
        &mut self,
        configured: &BTreeMap<SourceName, bool>,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let now = now.as_millisecond();
        let (mut present, mut removed) = (Vec::new(), Vec::new());
        for source in self.sources.iter()? {
            let (name, record) = source?;
            let source: StoredSource =
                records::decode(&format!("source `{}`", name.value()), record.value())?;
            match configured.get(&SourceName::new(name.value())) {
                Some(secret) => present.push((name.value().to_owned(), source, *secret)),
                None => removed.push((source.configured_at, name.value().to_owned())),
            }
        }
        for (name, mut source, secret) in present {
            if secret && !source.secret {
                self.delete_values(&name)?;
                source.cursor = None;
            }
            source.secret = secret;
            source.configured_at = now;
            self.put(&name, &source)?;
        }
        self.forget_orphaned_records(configured)?;
        removed.sort();
        let keep = i64::try_from(settings.keep_removed.0.as_millis()).unwrap_or(i64::MAX);
        let too_many = removed.len().saturating_sub(settings.max_removed as usize);
        for (index, (configured_at, name)) in removed.iter().enumerate() {
            if index < too_many || configured_at.saturating_add(keep) < now {
                tracing::info!(source = %name, "state of removed source deleted");
                self.forget(name)?;
            }
        }
        Ok(())
    }
}

//! Delivery records: the last delivery to each sink.

use crate::{
    disk_format::{DELIVERIES, StoredDelivery, decode_delivery, encode, to_timestamp},
    error::StoreError,
    write_request::Delivery,
};
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};
use reloader_engine::types::{Revision, SourceName};
use reloader_util::digest::Digest;
use std::collections::BTreeMap;

/// Maximum number of delivery records of one source. The oldest ones are deleted.
pub(crate) const MAX_DELIVERY_RECORDS_PER_SOURCE: usize = 64;

/// Record of the last delivery of a source's value to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Delivered revision.
    pub revision: Revision,
    /// Digest that the sink reported: of the value, or of the output that the sink made from the value.
    pub digest: Digest,
    /// Time of the delivery.
    pub at: Timestamp,
}

impl From<StoredDelivery> for DeliveryRecord {
    fn from(StoredDelivery { at, revision, digest }: StoredDelivery) -> Self {
        Self { revision: revision.into(), digest, at: to_timestamp(at) }
    }
}

/// Returns the digest of the last delivery to a sink of the source or group `owner`.
pub(crate) fn last_digest(
    transaction: &ReadTransaction,
    owner: &SourceName,
    sink: &str,
) -> Result<Option<Digest>, StoreError> {
    let table = transaction.open_table(DELIVERIES)?;
    let Some(record) = table.get((owner.as_str(), sink))? else { return Ok(None) };
    Ok(Some(decode_delivery(owner.as_str(), sink, record.value())?.digest))
}

/// Returns the delivery records of a source or group, by sink name.
pub(crate) fn by_sink(
    transaction: &ReadTransaction,
    owner: &SourceName,
) -> Result<BTreeMap<String, DeliveryRecord>, StoreError> {
    let table = transaction.open_table(DELIVERIES)?;
    let stored = stored_by_sink(&table, owner.as_str())?;
    Ok(stored.into_iter().map(|(sink, stored)| (sink, stored.into())).collect())
}

fn stored_by_sink(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    owner: &str,
) -> Result<Vec<(String, StoredDelivery)>, StoreError> {
    let mut deliveries = Vec::new();
    for entry in table.range((owner, "")..)? {
        let (key, record) = entry?;
        let (entry_owner, sink) = key.value();
        if entry_owner != owner {
            break;
        }
        deliveries.push((sink.to_owned(), decode_delivery(owner, sink, record.value())?));
    }
    Ok(deliveries)
}

/// Table of the delivery records in a write transaction.
pub(crate) struct DeliveryTable<'a>(Table<'a, (&'static str, &'static str), &'static [u8]>);

impl<'a> DeliveryTable<'a> {
    pub(crate) fn open(transaction: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self(transaction.open_table(DELIVERIES)?))
    }

    /// Stores deliveries, and deletes the oldest delivery records beyond the limit.
    pub(crate) fn put(
        &mut self,
        owner: &str,
        deliveries: &BTreeMap<String, Delivery>,
    ) -> Result<(), StoreError> {
        if deliveries.is_empty() {
            return Ok(());
        }
        for (sink, Delivery { at, revision, digest }) in deliveries {
            let at = at.as_millisecond();
            let record = StoredDelivery { at, revision: revision.get(), digest: *digest };
            self.0.insert((owner, &sink[..]), &encode(&record)?[..])?;
        }
        let stored = stored_by_sink(&self.0, owner)?.into_iter();
        let mut by_time: Vec<_> = stored.map(|(sink, record)| (record.at, sink)).collect();
        by_time.sort();
        let old = by_time.len().saturating_sub(MAX_DELIVERY_RECORDS_PER_SOURCE);
        for (_, sink) in &by_time[..old] {
            self.0.remove((owner, &sink[..]))?;
        }
        Ok(())
    }

    /// Deletes all delivery records, so that each sink delivers again unless it detects by itself that its target is
    /// unchanged.
    pub(crate) fn delete_all(&mut self) -> Result<(), StoreError> {
        Ok(self.0.retain(|_, _| false)?)
    }

    /// Deletes the delivery records of a source or group.
    pub(crate) fn delete(&mut self, owner: &str) -> Result<(), StoreError> {
        let mut sinks = Vec::new();
        for entry in self.0.range((owner, "")..)? {
            let (key, _) = entry?;
            let (entry_owner, sink) = key.value();
            if entry_owner != owner {
                break;
            }
            sinks.push(sink.to_owned());
        }
        for sink in sinks {
            self.0.remove((owner, &sink[..]))?;
        }
        Ok(())
    }

    /// Returns the names of the sources and groups with delivery records, with repetitions.
    pub(crate) fn owners(&self) -> Result<Vec<String>, StoreError> {
        let entries = self.0.iter()?;
        entries.map(|entry| Ok(entry?.0.value().0.to_owned())).collect()
    }
}

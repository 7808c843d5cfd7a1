//! Rejected values: the last one of each source, for inspection by the operator.

use crate::{
    disk_format::{
        REJECTED_CONTENTS, REJECTIONS, StoredRejection, decode_rejection, encode, to_timestamp,
    },
    error::StoreError,
    write_request::RejectedValue,
};
use bytes::Bytes;
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable as _, Table, WriteTransaction};
use reloader_engine::types::SourceName;
use reloader_util::{digest::Digest, sanitize::sanitize};
use std::sync::Arc;

/// Maximum size of a stored rejected value, in bytes. Larger content is not stored.
pub(crate) const MAX_REJECTED_CONTENT_BYTES: usize = 1 << 20;

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
    pub content: Option<Bytes>,
}

/// Returns the last rejected value of a source.
pub(crate) fn last(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<RejectedEntry>, StoreError> {
    let name = name.as_str();
    let table = transaction.open_table(REJECTIONS)?;
    let Some(record) = table.get(name)? else { return Ok(None) };
    let rejected = decode_rejection(name, record.value())?;
    let contents = transaction.open_table(REJECTED_CONTENTS)?;
    let content = contents.get(name)?.map(|content| Bytes::copy_from_slice(content.value()));
    Ok(Some(RejectedEntry {
        reason: rejected.reason,
        at: to_timestamp(rejected.at),
        digest: rejected.digest,
        size: rejected.size,
        media_type: rejected.media_type.map(Arc::from),
        content,
    }))
}

/// Tables of the rejected values in a write transaction.
pub(crate) struct RejectedTables<'a> {
    rejections: Table<'a, &'static str, &'static [u8]>,
    contents: Table<'a, &'static str, &'static [u8]>,
}

impl<'a> RejectedTables<'a> {
    pub(crate) fn open(transaction: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            rejections: transaction.open_table(REJECTIONS)?,
            contents: transaction.open_table(REJECTED_CONTENTS)?,
        })
    }

    /// Stores the last rejected value of a source. With `secret`, stores neither its content nor the
    /// reason, which may quote the value.
    pub(crate) fn put(
        &mut self,
        name: &str,
        rejected: &RejectedValue,
        secret: bool,
    ) -> Result<(), StoreError> {
        let RejectedValue { value, at, reason, .. } = rejected;
        let record = StoredRejection {
            at: at.as_millisecond(),
            reason: sanitize(if secret { "(not stored)" } else { reason }),
            size: value.content.len() as u64,
            digest: Digest::of(&value.content),
            media_type: value.media_type.as_deref().map(str::to_owned),
        };
        self.rejections.insert(name, &encode(&record)?[..])?;
        if secret || value.content.len() > MAX_REJECTED_CONTENT_BYTES {
            self.contents.remove(name)?;
        } else {
            self.contents.insert(name, &value.content[..])?;
        }
        Ok(())
    }

    /// Deletes the content of the rejected value of a source, and keeps its record.
    pub(crate) fn delete_content(&mut self, name: &str) -> Result<(), StoreError> {
        self.contents.remove(name)?;
        Ok(())
    }

    /// Deletes the rejected value of a source.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), StoreError> {
        self.rejections.remove(name)?;
        self.delete_content(name)
    }

    /// Returns the names of the sources with a rejected value.
    pub(crate) fn sources(&self) -> Result<Vec<String>, StoreError> {
        let entries = self.rejections.iter()?;
        entries.map(|entry| Ok(entry?.0.value().to_owned())).collect()
    }
}

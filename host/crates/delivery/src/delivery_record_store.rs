//! Persistent delivery record: which values a sink has delivered last.

use async_trait::async_trait;
use reloader_util::digest::Digest;

/// Persistent delivery record of one sink: the digest of the values that were delivered last.
///
/// For a sink that [detects unchanged values](crate::Sink::detects_unchanged) itself, the worker calls only
/// [`record`](Self::record).
#[async_trait]
pub trait DeliveryRecordStore: Send + Sync {
    /// Returns the last record; `None` if there is no record, or if a later delivery has begun and not succeeded.
    async fn last(&self) -> Option<Digest>;

    /// Clears the record before a delivery.
    ///
    /// After a crash during the delivery, the state of the target is unknown. Without a record, the worker delivers
    /// again after the restart, even if the source returns to the previous value.
    async fn begin(&self);

    /// Stores the delivery record of a successful delivery. `digest` identifies the delivered values.
    async fn record(&self, digest: Digest);
}

/// Delivery record store that stores nothing: values are delivered again after a restart.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDeliveryRecords;

#[async_trait]
impl DeliveryRecordStore for NoDeliveryRecords {
    async fn last(&self) -> Option<Digest> {
        None
    }

    async fn begin(&self) {}

    async fn record(&self, _: Digest) {}
}

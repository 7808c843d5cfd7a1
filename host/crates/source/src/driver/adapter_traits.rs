//! Traits of the driver: [`Adapter`] calls the source, [`Publish`] receives its values and their status.

use reloader_engine::types::{Cursor, Event, Failure, Outcome, Revision, Value};
use std::{future::Future, sync::Arc, time::Duration};

/// Calls to a source. The futures are named types, so that a driver is `Send` if they are.
pub(crate) trait Adapter {
    type Value: Value;
    /// State that is kept between two reads, such as a plugin instance or a connection.
    type Reader;
    /// Future of a read. Outputs the reader for the next read, or `None` if the reader must not be used again.
    type ReadFuture: Future<Output = (Option<Self::Reader>, Result<Outcome<Self::Value>, Failure>)>
        + Unpin;
    type Watch;
    type WatchFuture: Future<Output = (Option<Self::Watch>, WatchResult<Self::Value>)> + Unpin;
    type ValidateFuture: Future<Output = Result<(), Failure>> + Unpin;

    /// Idle time after which the driver drops a reader. If the next scheduled read is further away than this time, the
    /// driver immediately drops the reader of a source that is rarely read.
    const READER_IDLE_TIMEOUT: Duration;

    /// Reads the source, with the reader of the previous read if there is one.
    fn read(&mut self, reader: Option<Self::Reader>, known: Option<Cursor>) -> Self::ReadFuture;
    /// Arms a watch of the source.
    fn arm(&mut self, known: Option<Cursor>) -> Self::WatchFuture;
    /// Waits for the next event of an armed watch.
    fn next_event(&mut self, watch: Self::Watch) -> Self::WatchFuture;

    /// Validates a value. The implementation applies its own time limit.
    fn validate(&mut self, value: &Self::Value) -> Self::ValidateFuture;
}

/// Result of arming a watch or of waiting for its next event.
pub(crate) enum WatchResult<V> {
    Armed,
    Event(Event<V>),
    Lost(Failure),
}

/// Publisher: receives the values and their status from the driver.
pub(crate) trait Publish {
    type Value;
    /// Reason why nothing can be published any more.
    type Error;

    /// Publishes a value, or a removal (`None`).
    fn publish(&self, revision: Revision, value: Option<Self::Value>) -> Result<(), Self::Error>;
    /// Records that the source has confirmed the published value.
    fn confirmed(&self);
    /// Marks the published value as stale, or as fresh (`None`).
    fn stale(&self, reason: Option<Arc<str>>);
    /// Records a rejected value. `retry_in` is the delay before the same value is validated again; `None` if the
    /// value is not validated again.
    fn rejected(&self, value: &Self::Value, reason: Arc<str>, retry_in: Option<Duration>);

    /// Records the cause of a read failure; `None` after a successful read.
    fn failing(&self, reason: Option<Arc<str>>);
}

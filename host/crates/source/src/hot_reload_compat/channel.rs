//! Channel from a `ReloaderService` to its receivers.

use super::error::{ReloadResult, ReloaderError};
use crate::latest_value::Stale;
use jiff::Timestamp;
use reloader_engine::types::Revision;
use std::{borrow::Cow, fmt::Display, marker::PhantomData};
use tokio::sync::watch;

/// Sender of the values that a reloader loads, and of their status, to the receivers.
pub struct ReloaderSender<V>
where
    V: Eq + PartialEq,
{
    pub(super) values: watch::Sender<Option<V>>,
    pub(super) status: watch::Sender<Status>,
}

impl<V> ReloaderSender<V>
where
    V: Eq + PartialEq,
{
    /// Sends a value to all receivers.
    ///
    /// # Errors
    ///
    /// Fails with the value if all receivers are dropped.
    pub fn send(&self, value: Option<V>) -> Result<(), watch::error::SendError<Option<V>>> {
        self.values.send(value)
    }
}

/// Status of a value. It distinguishes the two meanings of a receiver's `None`: no value yet, and removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Revision of the latest publication (a value or a removal); 0 before the first one.
    pub revision: Revision,
    /// Set after a removal: the source has no value any more.
    pub removed: bool,
    /// Time at which the source last confirmed the value; `None` before the first confirmation.
    pub last_success_at: Option<Timestamp>,
    /// Staleness of the value; `None` while it is fresh.
    pub stale: Option<Stale>,
}

/// Receiver of the latest value: `None` before the first one and after a removal.
pub struct ReloaderReceiver<V, S = &'static str>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    values: watch::Receiver<Option<V>>,
    status: watch::Receiver<Status>,
    messages: PhantomData<fn() -> S>,
}

impl<V, S> Clone for ReloaderReceiver<V, S>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), status: self.status.clone(), messages: PhantomData }
    }
}

impl<V, S> ReloaderReceiver<V, S>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    /// Waits for a value or a removal that this receiver has not seen. Intermediate values are coalesced: only
    /// the latest one is seen.
    ///
    /// # Errors
    ///
    /// Fails with [`ReloaderError::WatchRecvError`] when the service has stopped.
    pub async fn changed(&mut self) -> ReloadResult<(), V, S> {
        self.values.changed().await.map_err(ReloaderError::WatchRecvError)
    }

    /// Borrows the latest value. While the borrow is held, the service cannot send another value.
    pub fn borrow(&self) -> watch::Ref<'_, Option<V>> {
        self.values.borrow()
    }

    /// Returns a copy of the latest value.
    #[must_use]
    pub fn get(&self) -> Option<V>
    where
        V: Clone,
    {
        self.values.borrow().clone()
    }

    /// Returns the status of the value: revision, removal and staleness.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }
}

/// Creates a channel: its sender and a first receiver.
pub(super) fn channel<V, S>() -> (ReloaderSender<V>, ReloaderReceiver<V, S>)
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    let (values, receiver) = watch::channel(None);
    let (status, status_receiver) = watch::channel(Status::default());
    let receiver =
        ReloaderReceiver { values: receiver, status: status_receiver, messages: PhantomData };
    (ReloaderSender { values, status }, receiver)
}

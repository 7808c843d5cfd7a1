//! From a service to those who use its value.

use super::{ReloadResult, ReloaderError};
use crate::store::Stale;
use jiff::Timestamp;
use reloader_engine::types::Revision;
use std::{borrow::Cow, fmt::Display, marker::PhantomData};
use tokio::sync::watch;

/// Hands on what was loaded.
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
    /// Hands a value to all receivers.
    ///
    /// # Errors
    ///
    /// When there is no receiver any more; the value comes back with it.
    pub fn send(&self, value: Option<V>) -> Result<(), watch::error::SendError<Option<V>>> {
        self.values.send(value)
    }
}

/// What is known besides the value itself. A receiver's `None` alone does not tell whether there has
/// been no value yet, or there is none any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Counts the values and the removals; 0 before the first one.
    pub revision: Revision,
    /// The source said for certain that there is no value any more.
    pub removed: bool,
    /// When the source stood for the value last.
    pub last_success_at: Option<Timestamp>,
    /// Why the value is older than the source promises, if it is.
    pub stale: Option<Stale>,
}

/// Sees the latest value: `None` before the first one, and after a removal.
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
    /// Waits for a value, or a removal, that this receiver has not waited for yet. Latest wins: what
    /// came and went in between is not seen.
    ///
    /// # Errors
    ///
    /// [`ReloaderError::WatchRecvError`] when the service has stopped.
    pub async fn changed(&mut self) -> ReloadResult<(), V, S> {
        self.values.changed().await.map_err(ReloaderError::WatchRecvError)
    }

    /// The latest value. The service cannot hand on another one while this is held.
    pub fn borrow(&self) -> watch::Ref<'_, Option<V>> {
        self.values.borrow()
    }

    /// A copy of the latest value.
    #[must_use]
    pub fn get(&self) -> Option<V>
    where
        V: Clone,
    {
        self.values.borrow().clone()
    }

    /// What is known besides: whether there has been a value, whether it is current, and if not, why.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }
}

/// A sender, and a first receiver.
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

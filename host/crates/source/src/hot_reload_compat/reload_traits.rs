//! Traits of a reloader: [`Reload`] loads a value, [`RealtimeWatch`] adds change notifications.

use super::error::ReloadResult;
use crate::caught_panics::CatchDrop;
use async_trait::async_trait;
use std::{any::Any, borrow::Cow, fmt::Display};
use tokio::sync::mpsc;

/// Reloader: loads a value `V` from a source, e.g. a file or a key.
///
/// `S` is the type of the message in [`ReloaderError::Reload`](super::ReloaderError::Reload).
#[async_trait]
pub trait Reload<V, S = &'static str>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    /// Identifier of the source, e.g. its path.
    type Source;

    /// Creates a reloader for this source.
    ///
    /// # Errors
    ///
    /// Fails if the reloader cannot be created. A source without a value is not an error.
    async fn new(src: &Self::Source) -> ReloadResult<Self, V, S>
    where
        Self: Sized;

    /// Loads the current value. `None` if there is no value or no new one: the last value stays.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be loaded. The service retries with exponential backoff, also after a panic. A
    /// [`Failure`](reloader_engine::types::Failure) in [`ReloaderError::Other`](super::ReloaderError::Other) can set
    /// the delay before the retry; a failure of the kind [`Config`](reloader_engine::types::FailureKind::Config) ends
    /// the service if there has been no value.
    async fn reload(&self) -> ReloadResult<Option<V>, V, S>;
}

/// Reloader with change notifications.
#[async_trait]
pub trait RealtimeWatch<V, S = &'static str>: Reload<V, S>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    /// Opens a watch. Every change after the return of this function must produce an event. After the return, the
    /// service calls [`Reload::reload`], which finds the changes before the return.
    ///
    /// # Errors
    ///
    /// Fails if the watch cannot be opened. With [`hybrid`](super::ReloaderConfig::hybrid), the service retries, and
    /// polls the source in the meantime.
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<V>, V, S>;

    /// Returns whether the watch still works after [`WatchEvent::Error`]. If it does, the service reads the source
    /// and keeps the watch. If not, which is the default, the service drops the watch and opens a new one.
    fn outlives_errors(&self) -> bool {
        false
    }
}

/// Event of a [`RealtimeWatch`].
#[derive(Debug, Clone)]
pub enum WatchEvent<V> {
    /// New value.
    Changed(V),
    /// The source has removed its value. Receivers see `None`.
    Removed,
    /// Error of the watch; see [`RealtimeWatch::outlives_errors`].
    Error(String),
}

/// Open watch of a reloader, returned by [`RealtimeWatch::watch_realtime`].
pub struct RealtimeWatchHandle<V> {
    /// Events of the watch. The watch is lost when all senders are dropped.
    pub rx: mpsc::Receiver<WatchEvent<V>>,
    _cleanup: Option<CatchDrop<Box<dyn Any + Send>>>,
}

impl<V> RealtimeWatchHandle<V> {
    /// Creates a watch whose events arrive on this channel.
    #[must_use]
    pub fn new(rx: mpsc::Receiver<WatchEvent<V>>) -> Self {
        Self { rx, _cleanup: None }
    }

    /// Creates a watch from its channel and a value that is dropped together with it, e.g. a guard that ends a task.
    #[must_use]
    pub fn with_cleanup(rx: mpsc::Receiver<WatchEvent<V>>, cleanup: Box<dyn Any + Send>) -> Self {
        Self { rx, _cleanup: Some(CatchDrop::new(cleanup)) }
    }
}

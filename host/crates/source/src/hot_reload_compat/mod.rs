//! API of the crate `hot_reload` for reloaders written in Rust, on the engine of this project.
//!
//! Implement [`Reload`] to load a value, and [`RealtimeWatch`] to receive change notifications. A
//! [`ReloaderService`] keeps the value up to date and sends it to its [`ReloaderReceiver`]s. Names, generics and
//! bounds are those of `hot_reload` 0.3; `docs/moving-from-hot_reload.md` lists the differences in behaviour.
//!
//! ```
//! use reloader_source::hot_reload_compat::{
//!     Reload, ReloadResult, ReloaderConfig, ReloaderError, ReloaderService,
//! };
//!
//! #[derive(Clone)]
//! struct Port(std::path::PathBuf);
//!
//! #[async_trait::async_trait]
//! impl Reload<u16> for Port {
//!     type Source = String;
//!
//!     async fn new(path: &String) -> ReloadResult<Self, u16> {
//!         Ok(Self(path.into()))
//!     }
//!
//!     async fn reload(&self) -> ReloadResult<Option<u16>, u16> {
//!         let text = tokio::fs::read_to_string(&self.0).await.map_err(anyhow::Error::from)?;
//!         text.trim().parse().map(Some).map_err(|_| ReloaderError::Reload("not a port"))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("port").display().to_string();
//! # std::fs::write(&path, "80")?;
//! let (service, mut ports) =
//!     ReloaderService::<Port, u16>::new(&path, ReloaderConfig::polling(1)).await?;
//! tokio::spawn(async move { service.start().await });
//! ports.changed().await?;
//! assert_eq!(ports.get(), Some(80));
//! # Ok(())
//! # }
//! ```

mod channel;
mod config;
mod driver_adapter;
mod service;

pub use crate::store::Stale;
pub use channel::{ReloaderReceiver, ReloaderSender, Status};
pub use config::ReloaderConfig;
pub use service::ReloaderService;

use async_trait::async_trait;
use std::{any::Any, borrow::Cow, fmt::Display};
use tokio::sync::{mpsc, watch};

/// Error of a reloader or of its service.
#[derive(Debug, thiserror::Error)]
pub enum ReloaderError<V, S = &'static str>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    /// The service has stopped: it sends no further values.
    #[error("Error at reloaded value receiver")]
    WatchRecvError(#[from] watch::error::RecvError),
    /// All receivers are dropped. The error contains the unsent value.
    #[error("Error at reloaded value sender")]
    WatchSendError(#[from] watch::error::SendError<Option<V>>),
    /// The value could not be loaded.
    #[error("Failed to reload: {0}")]
    Reload(S),
    /// Any other error.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Result of a reloader or of its service.
pub type ReloadResult<T, V, S = &'static str> = Result<T, ReloaderError<V, S>>;

/// Reloader: loads a value `V` from a source, e.g. a file or a key.
///
/// `S` is the type of the message in [`ReloaderError::Reload`].
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
    /// Fails if the value cannot be loaded. The service retries with exponential backoff. A
    /// [`Failure`](reloader_engine::types::Failure) in [`ReloaderError::Other`] can set the delay before the retry;
    /// one of the kind [`Config`](reloader_engine::types::FailureKind::Config) ends the service if there has been no
    /// value.
    async fn reload(&self) -> ReloadResult<Option<V>, V, S>;
}

/// Reloader with change notifications.
#[async_trait]
pub trait RealtimeWatch<V, S = &'static str>: Reload<V, S>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    /// Opens a watch: from its return on, every change must produce an event. The service then calls
    /// [`Reload::reload`], which returns the changes before that.
    ///
    /// # Errors
    ///
    /// Fails if the watch cannot be opened. With [`hybrid`](ReloaderConfig::hybrid), the service retries, and polls
    /// the source in the meantime.
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

/// Open watch.
pub struct RealtimeWatchHandle<V> {
    /// Events of the watch. The watch is lost when all senders are dropped.
    pub rx: mpsc::Receiver<WatchEvent<V>>,
    _cleanup: Option<Box<dyn Any + Send>>,
}

impl<V> RealtimeWatchHandle<V> {
    /// Creates a watch from its channel.
    #[must_use]
    pub fn new(rx: mpsc::Receiver<WatchEvent<V>>) -> Self {
        Self { rx, _cleanup: None }
    }

    /// Creates a watch from its channel and a value that is dropped together with it, e.g. a guard that ends a task.
    #[must_use]
    pub fn with_cleanup(rx: mpsc::Receiver<WatchEvent<V>>, cleanup: Box<dyn Any + Send>) -> Self {
        Self { rx, _cleanup: Some(cleanup) }
    }
}

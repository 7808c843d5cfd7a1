//! Reloaders written in Rust: the API of the crate `hot_reload`, on this crate's engine.
//!
//! Implement [`Reload`] for what knows how to load a value, and [`RealtimeWatch`] if it can be told of
//! changes; a [`ReloaderService`] keeps the value up to date, and hands it to its
//! [`ReloaderReceiver`]s. Names, generics and bounds are those of `hot_reload` 0.3; what is done better
//! is listed in `docs/moving-from-hot_reload.md`.
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

/// What can go wrong with a reloader.
#[derive(Debug, thiserror::Error)]
pub enum ReloaderError<V, S = &'static str>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    /// The service has stopped: no value will come any more.
    #[error("Error at reloaded value receiver")]
    WatchRecvError(#[from] watch::error::RecvError),
    /// Every receiver is gone: nobody wants this value.
    #[error("Error at reloaded value sender")]
    WatchSendError(#[from] watch::error::SendError<Option<V>>),
    /// The value could not be loaded.
    #[error("Failed to reload: {0}")]
    Reload(S),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// What a reloader's functions return.
pub type ReloadResult<T, V, S = &'static str> = Result<T, ReloaderError<V, S>>;

/// Knows how to load a value `V` from a source: a file, a key, whatever.
///
/// `S` is the type of the messages in [`ReloaderError::Reload`].
#[async_trait]
pub trait Reload<V, S = &'static str>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    /// What the source is named by.
    type Source;

    /// A reloader of this source.
    ///
    /// # Errors
    ///
    /// When there can be none. That the source has no value yet is not an error.
    async fn new(src: &Self::Source) -> ReloadResult<Self, V, S>
    where
        Self: Sized;

    /// The present value. `None`: there is none, or none that is new; the last one stays.
    ///
    /// # Errors
    ///
    /// When it cannot be loaded now. It is tried again, at a time that a [`Failure`](reloader_engine::types::Failure) in
    /// [`ReloaderError::Other`] can have a say in; one that says that the settings can never work ends
    /// the service, if there has been no value.
    async fn reload(&self) -> ReloadResult<Option<V>, V, S>;
}

/// Knows how to be told of changes.
#[async_trait]
pub trait RealtimeWatch<V, S = &'static str>: Reload<V, S>
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    /// Starts to listen. From when this returns, every change must give an event; what happened
    /// before is read by [`Reload::reload`], which is called next.
    ///
    /// # Errors
    ///
    /// When it cannot listen now. With [`hybrid`](ReloaderConfig::hybrid) it is tried again, and the
    /// source polled meanwhile.
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<V>, V, S>;

    /// Whether the handle is still good after [`WatchEvent::Error`]: then the source is read, and
    /// listened to as before. By default it is not, and is dropped and opened anew.
    fn outlives_errors(&self) -> bool {
        false
    }
}

/// What a [`RealtimeWatch`] has to say.
#[derive(Debug, Clone)]
pub enum WatchEvent<V> {
    /// The new value.
    Changed(V),
    /// For certain, there is no value any more. Receivers see `None`.
    Removed,
    /// Something is wrong; see [`RealtimeWatch::outlives_errors`].
    Error(String),
}

/// A watch that is open.
pub struct RealtimeWatchHandle<V> {
    /// What it has to say. When its senders are gone, the watch is lost.
    pub rx: mpsc::Receiver<WatchEvent<V>>,
    _cleanup: Option<Box<dyn Any + Send>>,
}

impl<V> RealtimeWatchHandle<V> {
    /// A watch of which nothing else must be kept.
    #[must_use]
    pub fn new(rx: mpsc::Receiver<WatchEvent<V>>) -> Self {
        Self { rx, _cleanup: None }
    }

    /// A watch with something that is dropped together with it, such as what watches.
    #[must_use]
    pub fn with_cleanup(rx: mpsc::Receiver<WatchEvent<V>>, cleanup: Box<dyn Any + Send>) -> Self {
        Self { rx, _cleanup: Some(cleanup) }
    }
}

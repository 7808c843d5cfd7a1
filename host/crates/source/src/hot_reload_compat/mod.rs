//! API of the crate `hot_reload` for reloaders written in Rust, on the engine of this project.
//!
//! Implement [`Reload`] to load a value, and [`RealtimeWatch`] to receive change notifications. A
//! [`ReloaderService`] keeps the value up to date and sends it to its [`ReloaderReceiver`]s. Names, generics and
//! bounds are those of `hot_reload` 0.3; `docs/migrate/from-hot_reload.md` lists the differences in behaviour.
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
mod error;
mod reload_traits;
mod service;

pub use crate::latest_value::Stale;
pub use channel::{ReloaderReceiver, ReloaderSender, Status};
pub use config::ReloaderConfig;
pub use error::{ReloadResult, ReloaderError};
pub use reload_traits::{RealtimeWatch, RealtimeWatchHandle, Reload, WatchEvent};
pub use service::ReloaderService;

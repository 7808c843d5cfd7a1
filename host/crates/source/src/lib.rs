//! Sources that are kept up to date: the driver that executes what the engine decides, the traits of what it
//! drives, and the latest value with its subscribers.
//!
//! A crate of its own, because it is the whole product for sources that are written in Rust: it knows neither
//! WebAssembly nor files.
//!
//! ```
//! use async_trait::async_trait;
//! use reloader_engine::{
//!     Settings,
//!     types::{Cursor, Failure, Outcome, Snapshot, SourceName, Strategy},
//! };
//! use reloader_source::{
//!     handle::Source,
//!     provider::{Provider, Reader, Watcher},
//! };
//! use std::{sync::Arc, time::Duration};
//!
//! struct Greeting;
//!
//! #[async_trait]
//! impl Reader for Greeting {
//!     async fn read(&mut self, _known: Option<Cursor>) -> Result<Outcome, Failure> {
//!         Ok(Outcome::Changed(Snapshot::new("hello")))
//!     }
//! }
//!
//! #[async_trait]
//! impl Provider for Greeting {
//!     fn reader(&self) -> Box<dyn Reader> {
//!         Box::new(Greeting)
//!     }
//!
//!     async fn arm(&self, _known: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
//!         Err(Failure::transient("a greeting is only polled"))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let settings = Settings::new(Strategy::Polling, Duration::from_secs(10));
//! let source = Source::start(SourceName::new("greeting"), Arc::new(Greeting), settings);
//! assert_eq!(&source.subscribe().next().await?.content[..], b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Modules, in reading order
//!
//! - [`provider`], [`validator`], [`persistence`]: traits of what a source reads, checks and restores.
//! - `driver`: executes the engine's effects; [`store`] holds the latest value; [`metrics`] counts.
//! - [`handle`]: a running source.
//! - [`hot_reload_compat`]: the API of the crate `hot_reload`.
//! - [`telemetry`]: spans for tracing.

pub mod handle;
pub mod hot_reload_compat;
pub mod metrics;
pub mod persistence;
pub mod provider;
pub mod store;
pub mod telemetry;
pub mod validator;

mod driver;

#[cfg(feature = "decode")]
#[doc(inline)]
pub use reloader_engine::decode;

//! Running sources: the driver of the engine, the provider, validator and persistence traits, and the latest value
//! with its subscriptions.
//!
//! The crate is sufficient for sources that are written in Rust. It depends on neither WebAssembly nor files.
//!
//! ```
//! use async_trait::async_trait;
//! use reloader_engine::{
//!     Settings,
//!     types::{Cursor, Failure, Outcome, Snapshot, SourceName, Strategy},
//! };
//! use reloader_source::{
//!     running_source::Source,
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
//!         Err(Failure::transient("a greeting has no change notifications"))
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
//! - [`provider`], [`validator`], [`persistence`]: traits for reading, validating and storing values.
//! - `driver`: event loop that executes the effects of the engine, with log deduplication and metrics recording.
//! - [`latest_value`]: latest value and its subscriptions; [`metrics`]: counters and histograms.
//! - [`running_source`]: starts and controls a source; `provider_adapter` and `persisting_publisher`: connect the
//!   driver to implementations of the traits; `caught_panics`: converts panics of these implementations to failures.
//! - [`hot_reload_compat`]: API of the crate `hot_reload`.
//! - [`spans`]: tracing spans.

pub mod hot_reload_compat;
pub mod latest_value;
pub mod metrics;
pub mod persistence;
pub mod provider;
pub mod running_source;
pub mod spans;
pub mod validator;

mod caught_panics;
mod driver;
mod persisting_publisher;
mod provider_adapter;

#[cfg(feature = "decode")]
#[doc(inline)]
pub use reloader_engine::decode;

//! Keeps values that change while programs run up to date: configuration, flags, certificates,
//! secrets, routing tables.
//!
//! What is special about each kind of source lives in a *plugin*, a sandboxed WebAssembly component
//! that reaches nothing but what its settings name. This crate runs the plugins, polls or watches,
//! and hands each new value to whoever waits for it. The program `host` does the same from a command
//! line.
//!
//! # A value that keeps itself up to date
//!
#![cfg_attr(feature = "plugins", doc = "```")]
#![cfg_attr(not(feature = "plugins"), doc = "```ignore")]
//! use reloader_host::{Runtime, Snapshot};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Config {
//!     port: u16,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("app.toml").display().to_string();
//! # std::fs::write(&path, "port = 80")?;
//! let runtime = Runtime::new()?;
//! let plugin = runtime.load("file").await?; // a bundled plugin, or the path of a component
//! let source = plugin.source("app").set("path", path.clone()).start()?;
//! let mut values = source.subscribe();
//! let config: Config = values.next().await?.decode()?;
//! assert_eq!(config.port, 80);
//!
//! std::fs::write(&path, "port = 8080")?;
//! let config: Config = values.next().await?.decode()?; // as soon as it has changed
//! assert_eq!(config.port, 8080);
//! # Ok(())
//! # }
//! ```
//!
//! Values that Rust code loads, without any plugin, are kept up to date by [`reload`], whose API is that
//! of the crate `hot_reload`; with [`file_reloader`] a Rust type follows a file.
//!
//! # The modules, in reading order
//!
//! [`model`] has the words, [`engine`] decides when to read, when to watch and what to publish, and the
//! driver carries it out. A source is an [`origin`], whose values are let through by a [`judge`]
//! (`validate` has some) and whose latest one is in the [`store`]; [`source`] is all of that with a
//! handle. Or it is a reloader behind the traits of [`reload`]. `capability` decides what a plugin may
//! reach, `plugin` runs it, `file` and `net` are what it reaches through. `delivery` carries values on,
//! `state` is what survives a restart, `config` is what an operator writes, and `app` wires all of it
//! together. `serve` shows what runs, and `client` asks it.
//!
//! # Features
//!
//! - `plugins` (default): sources that are components, and the ones that are bundled.
//! - `delivery` (part of `cli`): sinks, checks, and state that survives a restart.
//! - `app` (part of `cli`): a whole machine's configuration, from one file.
//! - `serve` (part of `cli`): what runs, seen and told things over HTTP.
//! - `client` (part of `cli`): asking a running host from a program.
//! - `otel`: the program sends metrics and traces to a collector of OpenTelemetry.
//! - `cli` (default): the program `host`.
//! - `file-reloader` (part of `plugins`): files, watched natively.
//!
//! Without any of them this is the engine for what is written in Rust, and builds in seconds.
#![cfg_attr(
    not(feature = "plugins"),
    allow(rustdoc::broken_intra_doc_links, reason = "what is linked to may be left out")
)]

#[cfg(feature = "app")]
pub mod app;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "plugins", feature = "delivery"))]
pub mod config;
pub mod counters;
#[cfg(feature = "delivery")]
pub mod delivery;
mod driver;
#[cfg(feature = "file-reloader")]
pub mod file_reloader;
pub mod judge;
pub mod keep;
#[cfg(feature = "plugins")]
pub mod net;
pub mod origin;
#[cfg(any(feature = "client", feature = "delivery"))]
mod outgoing;
#[cfg(feature = "delivery")]
mod outline;
#[cfg(feature = "plugins")]
pub mod plugin;
#[cfg(feature = "delivery")]
pub mod process;
pub mod reload;
#[cfg(feature = "serve")]
pub mod serve;
#[cfg(feature = "serve")]
mod socket;
pub mod source;
mod spans;
#[cfg(feature = "delivery")]
pub mod state;
pub mod store;
#[cfg(feature = "delivery")]
pub mod validate;

#[cfg(feature = "file-reloader")]
pub use file_reloader::{AsyncFileLoad, FileReloader};
pub use model::Strategy as WatchStrategy;
// Not for who moves here from `hot_reload`: a `use hot_reload::*` should bring no more than it did.
#[cfg(feature = "plugins")]
pub use model::{Failure, Snapshot, SourceName, Strategy};
#[cfg(feature = "plugins")]
pub use plugin::{Plugin, PluginReloader, Runtime};
pub use reload::{
    RealtimeWatch, RealtimeWatchHandle, Reload, ReloadResult, ReloaderConfig, ReloaderError,
    ReloaderReceiver, ReloaderSender, ReloaderService, WatchEvent,
};
#[cfg(any(feature = "app", feature = "client"))]
#[doc(inline)]
pub use reloader_api_types as wire;
#[doc(inline)]
pub use reloader_engine as engine;
#[cfg(any(feature = "plugins", feature = "delivery"))]
#[doc(inline)]
pub use reloader_engine::decode;
#[doc(inline)]
pub use reloader_engine::types as model;
#[cfg(feature = "file-reloader")]
#[doc(inline)]
pub use reloader_fs_watch as file;
#[cfg(feature = "plugins")]
#[doc(inline)]
pub use reloader_policy as capability;
#[cfg(feature = "delivery")]
#[doc(inline)]
pub use reloader_util::units;
#[cfg(feature = "plugins")]
pub use source::Source;
#[cfg(feature = "plugins")]
pub use store::Reader;

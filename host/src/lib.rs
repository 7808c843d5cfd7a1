//! Keeps the values of a running program up to date: configuration, flags, certificates, secrets, routing tables.
//!
//! Each kind of source is a *plugin*: a sandboxed WebAssembly component that can access only what its settings and
//! grants name. The library runs the plugins, polls or watches their sources, and publishes each new value to its
//! subscribers. The program `host` runs the library from the command line (package `reloader-host-cli`).
//!
//! # Example
//!
#![cfg_attr(feature = "bundled", doc = "```")]
#![cfg_attr(not(feature = "bundled"), doc = "```ignore")]
//! use reloader_host::{PluginHost, Snapshot};
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
//! let runtime = PluginHost::new()?;
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
//! [`reload`] polls or watches values that Rust code loads, without plugins. It has the API of the crate
//! `hot_reload`. [`file_reloader`](crate::reload) loads a value of a Rust type again whenever its file changes.
//!
//! # Crates
//!
//! This crate is a facade: its modules re-export the crates of the workspace, and each feature enables some of them.
//!
//! | module | contents | feature |
//! |---|---|---|
//! | [`types`], [`engine`] | types; the state machine of one source | |
//! | [`provider`], [`validator`], [`persistence`], [`latest_value`], [`source`], [`metrics`] | provider, validator and persistence traits; the latest value; a running source; its metrics | |
//! | [`reload`] | the API of `hot_reload` | |
//! | `fs_watch`, `file_reloader` | file watching; a Rust type that is loaded again when its file changes | `file-reloader` |
//! | `decode` | values as the program's own types | `decode` |
//! | `plugin`, `plugin_settings`, `policy`, `net` | plugin runtime, settings, grants and address policy, egress | `plugins` |
//! | `delivery`, `process`, `validate`, `state`, `units` | sinks, child processes, validation, state that survives a restart | `delivery` |
//! | `app` | one configuration with many sources | `app` |
//! | `server` | the HTTP API of a running configuration | `server` |
//! | `client`, `api_types` | requests to a running host, and their types | `client` |
//!
//! `bundled` adds the plugins that are part of the host to `plugins`. The default is `file-reloader`: neither
//! wasmtime nor HTTP is built.

#[doc(inline)]
pub use reloader_engine::{self as engine, types};
#[doc(inline)]
pub use reloader_source::{
    hot_reload_compat as reload, latest_value, metrics, persistence, provider,
    running_source as source, validator,
};

#[cfg(feature = "file-reloader")]
pub mod file_reloader;
#[cfg(feature = "file-reloader")]
#[doc(inline)]
pub use reloader_fs_watch as fs_watch;

#[cfg(feature = "decode")]
#[doc(inline)]
pub use reloader_source::decode;

#[cfg(feature = "plugins")]
#[doc(inline)]
pub use {reloader_net as net, reloader_plugin_runtime as plugin, reloader_policy as policy};

/// Settings of plugins: as text, checked against the plugin's schema, with references to secrets.
#[cfg(any(feature = "plugins", feature = "delivery"))]
pub mod plugin_settings {
    pub use reloader_net::secrets::{Reference, Secrets};
    pub use reloader_policy::plugin_settings::{SettingError, parse_pairs, resolve};
}

#[cfg(feature = "delivery")]
#[doc(inline)]
pub use {
    reloader_delivery::{self as delivery, process, source_value_validation as validate},
    reloader_state as state,
    reloader_util::units,
};

#[cfg(feature = "app")]
#[doc(inline)]
pub use reloader_app as app;
#[cfg(feature = "server")]
#[doc(inline)]
pub use reloader_server as server;

#[cfg(any(feature = "app", feature = "client"))]
#[doc(inline)]
pub use reloader_api_types as api_types;
#[cfg(feature = "client")]
#[doc(inline)]
pub use reloader_client as client;

#[cfg(feature = "file-reloader")]
pub use file_reloader::{AsyncFileLoad, FileReloader};
pub use types::Strategy as WatchStrategy;
// Types of the crate `hot_reload`. A migrated program may import them with a glob (`use hot_reload::*`). Without the
// feature `plugins`, the glob imports no other types, which could conflict with names of the program.
pub use reload::{
    RealtimeWatch, RealtimeWatchHandle, Reload, ReloadResult, ReloaderConfig, ReloaderError,
    ReloaderReceiver, ReloaderSender, ReloaderService, WatchEvent,
};
#[cfg(feature = "plugins")]
pub use {
    latest_value::Subscription,
    plugin::{Plugin, PluginHost, PluginReloader},
    source::Source,
    types::{Failure, Snapshot, SourceName, Strategy},
};

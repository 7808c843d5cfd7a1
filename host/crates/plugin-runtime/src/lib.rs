//! Plugin runtime: loads, compiles and caches components, and calls their instances in a sandbox.
//!
//! The only crate that depends on wasmtime. Generated bindings are private; `convert` translates them.
//!
//! [`PluginHost`] compiles a component, or loads it from the [`Cache`], and links it to a [`Plugin`]. With settings,
//! the plugin becomes the provider of a source or a validator, whose instances call the guest.
//!
#![cfg_attr(feature = "bundled", doc = "```")]
#![cfg_attr(not(feature = "bundled"), doc = "```ignore")]
//! use reloader_plugin_runtime::PluginHost;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("app.toml").display().to_string();
//! # std::fs::write(&path, "port = 80")?;
//! let runtime = PluginHost::new()?;
//! let plugin = runtime.load("file").await?; // a bundled plugin, or the path of a component
//! let source = plugin.source("app").set("path", path).start()?;
//! assert_eq!(&source.subscribe().next().await?.content[..], b"port = 80");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `bundled`: embeds the bundled plugins. Off by default.
//!
//! # Modules, in reading order
//!
//! - `plugin_host`, `compile`, `cache`, `world`, `bundled`: from bytes to a [`Plugin`].
//! - `source_builder`, `source_context`, `provider`, `plugin_watch`, `validator`, `json_schema`: from a plugin to
//!   a source or a validator; `configure_error`: errors of their settings.
//! - `instance`, `exports`, `bindings`, `convert`: one instance and its calls.
//! - `host_state`, `imports`, `resources`: host functions for guests, checked against the grants; `denials`,
//!   `call_denials`: denied accesses of a source and of a call.
//! - `scheduler`, `cpu_timer`, `timer`, `memory_limiter`, `value_rate_limit`, `log_budget`, `limits`: bounds on CPU
//!   time, memory and rates.
//! - `hot_reload_adapter`: a plugin behind the traits of `hot_reload`.

mod bindings;
mod bundled;
mod cache;
mod call_denials;
mod compile;
mod configure_error;
mod convert;
mod cpu_timer;
mod denials;
mod exports;
mod host_state;
mod hot_reload_adapter;
mod imports;
mod instance;
mod json_schema;
mod limits;
mod log_budget;
mod memory_limiter;
mod plugin_host;
mod plugin_watch;
mod provider;
mod resources;
mod scheduler;
mod source_builder;
mod source_context;
mod timer;
mod validator;
mod value_rate_limit;
mod world;

pub use bundled::{Bundled, bundled};
pub use cache::Cache;
pub use compile::{Compiler, serve};
pub use configure_error::ConfigureError;
pub use hot_reload_adapter::PluginReloader;
pub use json_schema::{JsonSchemaSettings, JsonSchemaValidator};
pub use limits::{Count, LimitError, Limits};
pub use plugin_host::{LoadError, LoadReason, Plugin, PluginHost, PluginHostBuilder, is_path};
pub use reloader_component_metadata::{ArtifactError, Description};
pub use source_builder::SourceBuilder;
pub use validator::ValidatorBuilder;
pub use world::{World, WorldError};

//! Plugin runtime: loads, compiles and caches components, and calls their instances in a sandbox.
//!
//! The only crate that depends on wasmtime. Generated bindings are private; `wit_conversion` translates them.
//!
//! [`PluginHost`] compiles a component, or loads it from the [`Cache`], and links it to a [`Plugin`]. With settings,
//! the plugin becomes the provider of a source or a validator. Each of them calls the guest through instances.
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
//! - `plugin_host`, `compile_queue`, `compiler`, `compiler_process`, `compile_cache`, `wasmtime_engine`, `world_check`,
//!   `bundled`: load a component as a [`Plugin`]; `load_threads`: threads that load; `load_error`: errors of loading.
//! - `source_builder`, `resolved_settings`, `source_context`, `configured_plugin`, `plugin_provider`, `source_watch`:
//!   create a source from a plugin and settings; `configure_error`: errors of the settings.
//! - `validator_plugin`, `sandboxed_json_schema_validator`, `json_schema_memory`: validation of values.
//! - `instance`, `export_lookup`, `call_failure`, `bindings`, `wit_conversion`: one instance and its calls.
//! - `imports`, `guest_resource_types`: host functions for guests, checked against the grants; `denials`,
//!   `call_denials`: denied accesses of a source and of a call.
//! - `scheduler`, `cpu_timer`, `memory_limiter`, `address_space`, `value_and_event_rate_limit`, `guest_log_limit`,
//!   `limits`: bounds on CPU time, memory and rates.
//! - `hot_reload_adapter`: implements the traits of `hot_reload` for a plugin.

mod address_space;
mod bindings;
mod bundled;
mod call_denials;
mod call_failure;
mod compile_cache;
mod compile_queue;
mod compiler;
mod compiler_process;
mod configure_error;
mod configured_plugin;
mod cpu_timer;
mod denials;
mod export_lookup;
mod guest_log_limit;
mod guest_resource_types;
mod hot_reload_adapter;
mod imports;
mod instance;
mod json_schema_memory;
mod limits;
mod load_error;
mod load_threads;
mod memory_limiter;
mod plugin_host;
mod plugin_provider;
mod resolved_settings;
mod sandboxed_json_schema_validator;
mod scheduler;
mod source_builder;
mod source_context;
mod source_watch;
mod validator_plugin;
mod value_and_event_rate_limit;
mod wasmtime_engine;
mod wit_conversion;
mod world_check;

pub use bundled::{Bundled, bundled};
pub use compile_cache::Cache;
pub use compiler::Compiler;
pub use compiler_process::run_compiler_process;
pub use configure_error::ConfigureError;
pub use hot_reload_adapter::PluginReloader;
pub use limits::{Count, LimitError, Limits};
pub use load_error::{LoadError, LoadReason};
pub use plugin_host::{Plugin, PluginHost, PluginHostBuilder, is_path};
pub use reloader_component_metadata::{ComponentError, Description, StaticCost};
pub use sandboxed_json_schema_validator::{JsonSchemaSettings, JsonSchemaValidator};
pub use source_builder::SourceBuilder;
pub use validator_plugin::ValidatorBuilder;
pub use world_check::{World, WorldError};

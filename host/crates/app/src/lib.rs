//! Runs one configuration: parsing, reconciliation, and the lifecycle of sources, sinks and state.
//!
//! No other crate wires sources, sinks and the state store together. [`Config::read`] parses a
//! configuration file, [`prepare`] loads its plugins and checks their settings, and an [`App`] runs it.
//!
//! ```
//! use reloader_app::Config;
//! use std::path::Path;
//!
//! let text = "[[source]]\nname = 'app'\nplugin = 'file'\nconfig.path = 'app.toml'\n";
//! let config = Config::parse(Path::new("reloader.toml"), text)?;
//! assert_eq!(config.sources[0].name.as_str(), "app");
//!
//! let error = Config::parse(Path::new("reloader.toml"), "[[source]]\nplugin = 'file'\n").unwrap_err();
//! assert!(error.to_string().starts_with("reloader.toml:1:"));
//! # Ok::<(), reloader_app::ConfigError>(())
//! ```
//!
//! # Features
//!
//! - `clap`: implements `clap::ValueEnum` for the settings that are also command-line flags. Off by
//!   default.
//!
//! # Modules
//!
//! Modules import each other in one direction only. In this order, a later module imports earlier ones:
//! `state_persistence`, `sink_set`, `managed_source`, `reconciler`; then `config_reload`, `operations` and `readiness`;
//! then `app_handle` and `app`.

mod app;
mod app_handle;
mod changes_per_minute;
mod config;
mod config_and_plugin_file_triggers;
mod config_diff;
mod config_preflight;
mod config_read_pool;
mod config_reload;
mod file_preview;
mod host_phase;
mod managed_source;
mod one_time_delivery;
mod online_check;
mod operation_error;
mod operations;
mod prepare;
mod readiness;
mod reconciler;
mod reload_queue;
mod reload_veto;
mod sink_set;
mod source_and_sink_counters;
mod source_status;
mod state_dir_and_socket_paths;
mod state_persistence;
mod state_queries;
mod status_changes;
mod status_queries;
mod supervised_command_notification_debounce;

pub use app::{App, ControlRequest, Outcome};
pub use app_handle::Handle;
pub use config::{
    Config, ConfigError, GroupConfig, InvalidSetting, ListenAddress, ListenTable, ListenTls,
    LogFormat, LogLevel, LogTable, Scope, SourceConfig, StateTable, Token, TokenDigest, schema,
};
pub use config_preflight::preflight_warnings;
pub use file_preview::{FilePreview, preview_files};
pub use host_phase::Phase;
pub use one_time_delivery::Unfinished;
pub use online_check::{SourceCheck, check_online};
pub use operation_error::OperationError;
pub use prepare::{Prepared, check, prepare};
pub use reload_veto::ReloadVeto;
pub use source_and_sink_counters::{SinkCounts, SourceCounts};
pub use state_dir_and_socket_paths::{control_socket, running_socket, state_directory};
pub use status_changes::{ChangedSources, StatusChanges};

//! Runs one configuration: parsing, reconciliation, and the lifecycle of sources, sinks and state.
//!
//! The only crate that wires sources, sinks and the state store together. [`Config::read`] parses a
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
//! Imports run one way: `persistence` ← `sink_set` ← `managed_source` ← `reconciler` ← `commands` ←
//! `handle` ← `app`.

mod app;
mod change_histogram;
mod command_error;
mod commands;
mod config;
mod handle;
mod managed_source;
mod paths;
mod persistence;
mod preflight;
mod prepare;
mod reconciler;
mod reload_check;
mod reload_triggers;
mod sink_set;
mod status;

pub use app::{App, Order, Outcome};
pub use command_error::CommandError;
pub use config::{
    Config, ConfigError, GroupConfig, ListenAddress, ListenTable, ListenTls, LogFormat, LogLevel,
    LogTable, Scope, SourceConfig, StateTable, Token, TokenDigest, schema,
};
pub use handle::Handle;
pub use paths::{control_socket, running_socket, state_directory};
pub use preflight::preflight_warnings;
pub use prepare::{Prepared, SourceCheck, check, check_online, prepare};
pub use reload_check::ReloadCheck;
pub use status::{Phase, SinkCounts, SourceCounts};

//! The program `host`, packaged as `reloader-host`: arguments, logging, signals, the service manager, OpenTelemetry.
//!
//! The program is also a library, so that the tests can build it under another name:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     reloader_host_cli::main()
//! }
//! ```
//!
//! # Features
//!
//! - `otel`: export of traces and metrics to an OpenTelemetry collector. Off by default.

mod bundled_plugins;
mod cli_error;
mod command_dispatch;
mod command_line;
mod common_args;
mod config_commands;
mod create_token;
mod grant_args;
mod inspect;
mod logging;
mod malloc_threshold;
mod network_args;
#[cfg(feature = "otel")]
mod otel;
mod output_format;
mod program_path;
mod remote;
mod run;
mod signals;
mod start_plugin_host;
mod status_table;
mod stdout;
mod systemd;
mod version;

pub use command_dispatch::main;

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

mod blocking_operation_pool;
mod check_config;
mod cli_error;
mod command_dispatch;
mod command_line;
mod core_dumps;
mod create_token;
mod grant_and_limit_args;
mod inspect;
mod invalid_config;
mod live_status_table;
mod log_and_cache_args;
mod logging;
mod malloc_settings;
#[cfg(feature = "otel")]
mod otel;
mod output_format;
mod plugins_command;
mod program_path;
mod remote_commands;
mod render;
mod run_config;
mod run_one;
mod shutdown_deadline;
mod signals;
mod source_egress_args;
mod start_plugin_host;
mod stdout;
mod systemd;
mod thread_start_error;
mod version;

pub use command_dispatch::main;

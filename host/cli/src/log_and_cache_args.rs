//! Arguments of all commands: log level and format, plugin cache.

use clap::Args;
use reloader_app::{LogFormat, LogLevel};

/// Arguments of all commands.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Level of the log on stderr [default: info]; overridden by `RUST_LOG`, which can set a level for each module
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
    /// Format of the log [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Do not use the cache of compiled plugins
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
}

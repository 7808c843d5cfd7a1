//! Start of the plugin runtime for a command.

use crate::{
    cli_error::CliError, log_and_cache_args::CommonArgs, program_path::program_path,
    thread_start_error::cannot_start,
};
use reloader_plugin_runtime::{Cache, Compiler, Limits, LoadError, PluginHost};
use std::io;

/// Returns the error of a plugin that cannot be loaded. Its exit status says whether a restart may help.
pub(crate) fn load_error(error: &LoadError) -> CliError {
    if error.is_temporary() { CliError::runtime(error) } else { CliError::usage(error) }
}

/// Starts the plugin runtime. `limits` are the default limits of each plugin.
pub(crate) fn start_plugin_host(
    common: &CommonArgs,
    limits: Limits,
) -> Result<PluginHost, CliError> {
    let cache = if common.no_cache { Cache::none() } else { Cache::user() };
    // Plugins are compiled in a child process. If the path of this program is unknown, they are compiled in this
    // process.
    let compiler = match program_path() {
        Some(program) => Compiler::ChildProcess(program),
        None => Compiler::InProcess,
    };
    let runtime = PluginHost::builder().compiler(compiler).cache(cache).limits(limits).build();
    let part = "the WebAssembly runtime";
    let runtime = runtime.map_err(|error| match error.downcast_ref::<io::Error>() {
        Some(error) => cannot_start(part, error),
        None => CliError::Runtime(format!("cannot start {part}: {error:#}")),
    })?;
    // The plugin runtime is leaked, so that its threads live until the program exits: a connection uses the timers of
    // the thread that opened it.
    std::mem::forget(runtime.clone());
    Ok(runtime)
}

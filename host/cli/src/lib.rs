//! The program `host`: arguments, logging, signals, the service manager, OpenTelemetry.
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

mod daemon;
mod grant_args;
mod inspect;
mod logging;
mod network;
#[cfg(feature = "otel")]
mod otel;
mod plugins;
mod progress;
mod remote;
mod run;
mod signals;
mod systemd;
mod token;

use clap::{Args, CommandFactory, Parser, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use reloader_app::{LogFormat, LogLevel, LogTable};
use reloader_delivery::process;
use reloader_plugin_runtime::{Cache, Compiler, Limits, PluginHost};
use reloader_util::sanitize::sanitize;
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Keeps configuration values up to date while programs run.
///
/// The host reads values from sources, such as files, Redis keys and URLs, and delivers each new value
/// without a restart. Each source is read by a plugin: a sandboxed WebAssembly component that can access
/// only what its settings and grants name.
#[derive(Debug, Parser)]
#[command(name = "host", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "\
Examples:
  host run --plugin file --set path=app.toml          print a file and each new version of it
  host run --plugin kvs --set url=redis://localhost --set key=app
  host run --plugin http --set url=https://example.com/flags.json --interval 30s
  host run --plugin ./mine.wasm --set name=value --once --format raw
  host inspect kvs                                    show the settings and grants of a plugin
  host check --config reloader.toml                   validate a configuration file
  host run --config reloader.toml                     run all sources of a configuration file
  host status                                         show the status of the running host

Exit status: 0 on success, 1 on a runtime error, 2 on invalid arguments or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one source and print each new value, or run all sources of a configuration file
    Run(Box<run::RunArgs>),
    /// Validate a configuration file
    Check(daemon::CheckArgs),
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// Show the status of all sources
    Status(remote::StatusArgs),
    /// Print a source's current value, byte for byte
    Get(remote::GetArgs),
    /// Print a source's current value and each new value
    Watch(remote::WatchArgs),
    /// Show the stored revisions of a source
    History(remote::HistoryArgs),
    /// Roll a source back to an earlier value and pin it until `host resume`
    Rollback(remote::RollbackArgs),
    /// Unpin a source after `host rollback`
    Resume(remote::SourceArgs),
    /// Refresh a source immediately
    Reload(remote::SourceArgs),
    /// Create a token for the API, and print the configuration that accepts it
    Token(token::TokenArgs),
    /// Show the description, settings and grants of a plugin
    Inspect(inspect::InspectArgs),
    /// List the bundled plugins, or export one to a file
    Plugins(plugins::PluginsArgs),
    /// Print a shell completion script, e.g. `source <(host completions bash)`
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Compile the component on standard input (internal: the other commands run this in a child process)
    #[command(hide = true)]
    Compile {
        /// Time limit, in seconds
        seconds: u64,
        /// Memory limit, in bytes
        memory: u64,
    },
}

/// Arguments of all commands.
#[derive(Debug, Args)]
struct Common {
    /// Level of the log on stderr [default: info]; `RUST_LOG` sets levels in more detail
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// Format of the log [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Do not use the cache of compiled plugins
    #[arg(long, global = true)]
    no_cache: bool,
}

/// Reason for an exit status other than 0.
#[derive(Debug)]
enum CliError {
    /// Invalid arguments or configuration: exit status 2.
    Usage(String),
    /// Error at run time: exit status 1.
    Runtime(String),
    /// Error that is already reported to the user, with its exit status.
    Reported(u8),
}

impl CliError {
    fn usage(error: impl ToString) -> Self {
        Self::Usage(error.to_string())
    }

    fn runtime(error: impl ToString) -> Self {
        Self::Runtime(error.to_string())
    }
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    return_large_buffers();
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_)) && process::pid1::is_needed() {
        return run_as_pid1();
    }
    let result = log_and_execute(cli);
    let (message, status) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(CliError::Usage(message)) => (message, 2),
        Err(CliError::Runtime(message)) => (message, 1),
        Err(CliError::Reported(status)) => return ExitCode::from(status),
    };
    let mut stderr = std::io::stderr().lock();
    for (number, line) in message.lines().enumerate() {
        let margin = if number == 0 { "error: " } else { "       " };
        // A closed stderr is ignored: the exit status reports the failure, too.
        let _ = writeln!(stderr, "{margin}{}", sanitize(line));
    }
    ExitCode::from(status)
}

/// Size from which the allocator returns a freed buffer to the system immediately, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const RETURNED_BUFFER_BYTES: i32 = 1 << 20;

/// Fixes the `mmap` threshold of glibc's allocator. By default the threshold grows with the largest buffer that was
/// freed, and the memory of large values then stays with the process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn return_large_buffers() {
    #[allow(
        unsafe_code,
        reason = "`mallopt` has no safe wrapper; it is called before any other thread exists"
    )]
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_BUFFER_BYTES) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn return_large_buffers() {}

/// Runs as PID 1 of a container: spawns the host, forwards signals, reaps orphans.
fn run_as_pid1() -> ExitCode {
    let Some(program) = program() else { return ExitCode::FAILURE };
    match process::pid1::run(&program, std::env::args_os().skip(1)) {
        Ok(exit) => ExitCode::from(exit.code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot run as PID 1: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts logging and executes a command. Flushes the log before it returns, so that the error message comes last.
fn log_and_execute(cli: Cli) -> Result<(), CliError> {
    let Cli { command, common } = cli;
    let Command::Run(run) = command else {
        let _log = logging::start(&common, &LogTable::default(), None);
        return execute(command, &common);
    };
    match run.config()? {
        None => {
            let _log = logging::start(&common, &LogTable::default(), None);
            on_tokio(run.execute(&common))
        }
        Some(config) => {
            let screen = daemon::status_screen(&common, &config);
            let _log = logging::start(&common, &config.log, screen.clone());
            on_tokio(daemon::run(config, screen, &common))
        }
    }
}

fn execute(command: Command, common: &Common) -> Result<(), CliError> {
    match command {
        Command::Check(args) => on_tokio(args.execute(common)),
        Command::Schema => daemon::schema(),
        Command::Status(args) => on_tokio(args.execute()),
        Command::Get(args) => on_tokio(args.execute()),
        Command::Watch(args) => on_tokio(args.execute()),
        Command::History(args) => on_tokio(args.execute()),
        Command::Rollback(args) => on_tokio(args.execute()),
        Command::Resume(args) => on_tokio(args.resume()),
        Command::Reload(args) => on_tokio(args.reload()),
        Command::Token(args) => args.execute(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "host", &mut script);
            print(&script)
        }
        Command::Compile { seconds, memory } => {
            match reloader_plugin_runtime::serve(seconds, memory) {
                0 => Ok(()),
                status => Err(CliError::Reported(status)),
            }
        }
        Command::Plugins(args) => args.execute(),
        Command::Inspect(args) => on_tokio(args.execute(common)),
        Command::Run(args) => on_tokio(args.execute(common)),
    }
}

fn on_tokio(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Runtime(format!("cannot start the async runtime: {error}")))?;
    let result = runtime.block_on(command);
    // The runtime is leaked. A normal shutdown would wait for blocking reads, which may hang on a network file
    // system, and a background shutdown would panic threads that still use the timers of the runtime.
    std::mem::forget(runtime);
    result
}

fn runtime(common: &Common, limits: Limits) -> Result<PluginHost, CliError> {
    let cache = if common.no_cache { Cache::none() } else { Cache::user() };
    // Plugins are compiled in a child process. If the path of this program is unknown, they are compiled in this
    // process.
    let compiler = match program() {
        Some(program) => Compiler::Program(program),
        None => Compiler::Here,
    };
    let runtime =
        PluginHost::builder().compiler(compiler).cache(cache).limits(limits).build().map_err(
            |error| CliError::Runtime(format!("cannot start the WebAssembly runtime: {error:#}")),
        )?;
    // The host is leaked, so that its threads live until the program exits: a connection uses the timers of the
    // thread that opened it.
    std::mem::forget(runtime.clone());
    Ok(runtime)
}

/// Returns the path of this program. On Linux, the path stays valid after the file is replaced by an update.
fn program() -> Option<PathBuf> {
    let this = PathBuf::from("/proc/self/exe");
    if this.exists() { Some(this) } else { std::env::current_exe().ok() }
}

/// Returns a table without borders, as wide as the terminal, but at least [`MIN_TABLE_WIDTH`].
fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_some_and(|width| width < MIN_TABLE_WIDTH) {
        table.set_width(MIN_TABLE_WIDTH);
    }
    table
}

/// Lower bound of the width of a table, in columns. Some terminals report a width of 0.
const MIN_TABLE_WIDTH: u16 = 80;

/// Writes to standard output. A closed pipe is not an error.
fn print(bytes: &[u8]) -> Result<(), CliError> {
    print_with(|out| out.write_all(bytes))
}

/// Writes indented JSON to standard output.
fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(CliError::runtime)?;
    print(format!("{text}\n").as_bytes())
}

/// Calls `write` with a buffered standard output. A closed pipe is not an error.
fn print_with(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    use std::io::ErrorKind;
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::Runtime(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

//! The program `host`: arguments, logging, signals, the service manager, OpenTelemetry.
//!
//! It has a library, so that the tests build the same program under another name:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     reloader_host_cli::main()
//! }
//! ```
//!
//! # Features
//!
//! - `otel`: traces and metrics for a collector of OpenTelemetry. Off by default.

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

/// Keeps values that change while programs run up to date.
///
/// A source is anything that holds such a value: a file, a key in Redis, a URL. What is special about
/// it lives in a plugin, a sandboxed WebAssembly component that reaches nothing but what its settings
/// name.
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
  host run --plugin file --set path=app.toml          print the file, and each change of it
  host run --plugin kvs --set url=redis://localhost --set key=app
  host run --plugin http --set url=https://example.com/flags.json --interval 30s
  host run --plugin ./mine.wasm --set name=value --once --format raw
  host inspect kvs                                    its settings, and what it may ask to reach
  host check --config reloader.toml                   what is wrong with a whole machine's configuration
  host run --config reloader.toml                     keep it current
  host status                                         how its sources are

Exit status: 0 when all went well, 1 for a failure at run time, 2 for wrong arguments or settings.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep a source up to date, and print each new value; or all that a configuration file names
    Run(Box<run::RunArgs>),
    /// Say all that is wrong with a configuration file, without starting anything
    Check(daemon::CheckArgs),
    /// Print the JSON Schema of a configuration file, for editors
    Schema,
    /// Show how the sources of a running host are
    Status(remote::StatusArgs),
    /// Print the value that a source of a running host has, exactly
    Get(remote::GetArgs),
    /// Print the value that a source of a running host has, and each new one
    Watch(remote::WatchArgs),
    /// Show the values that a source of a running host had
    History(remote::HistoryArgs),
    /// Go back to an earlier value of a source, and stay there until `host resume`
    Rollback(remote::RollbackArgs),
    /// Follow a source again, after `host rollback`
    Resume(remote::SourceArgs),
    /// Have a running host read a source now
    Reload(remote::SourceArgs),
    /// Make a token for the API (`[listen]`), and print what to write of it into the configuration
    Token(token::TokenArgs),
    /// Show what a plugin is, its settings, and what it may ask to reach
    Inspect(inspect::InspectArgs),
    /// List the bundled plugins, or write one to a file
    Plugins(plugins::PluginsArgs),
    /// Print a completion script for a shell, e.g. `source <(host completions bash)`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Compile the component on standard input: what the other commands do in a process of its own
    #[command(hide = true)]
    Compile {
        /// Time, in seconds
        seconds: u64,
        /// Memory, in bytes
        memory: u64,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// What to log to stderr [default: info]; `RUST_LOG` can say it in more detail
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// How to log [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Compile plugins at each start, and keep nothing of it
    #[arg(long, global = true)]
    no_cache: bool,
}

/// Why the program ends with another status than 0.
#[derive(Debug)]
enum Failed {
    /// The arguments or settings are wrong: status 2.
    Usage(String),
    /// Something went wrong at run time: status 1.
    Runtime(String),
    /// What there is to say has been said: this status.
    Said(u8),
}

impl Failed {
    fn usage(error: impl ToString) -> Self {
        Self::Usage(error.to_string())
    }

    fn runtime(error: impl ToString) -> Self {
        Self::Runtime(error.to_string())
    }
}

/// Runs the program that the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_)) && process::pid1::is_needed() {
        return first_process();
    }
    let result = log_and_execute(cli);
    let (message, status) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failed::Usage(message)) => (message, 2),
        Err(Failed::Runtime(message)) => (message, 1),
        Err(Failed::Said(status)) => return ExitCode::from(status),
    };
    let mut stderr = std::io::stderr().lock();
    for (number, line) in message.lines().enumerate() {
        let margin = if number == 0 { "error: " } else { "       " };
        // Nobody may be left to read it; the status says it too.
        let _ = writeln!(stderr, "{margin}{}", sanitize(line));
    }
    ExitCode::from(status)
}

/// The first process of a container has nothing to do but to look after the others.
fn first_process() -> ExitCode {
    let Some(program) = program() else { return ExitCode::FAILURE };
    match process::pid1::run(&program, std::env::args_os().skip(1)) {
        Ok(exit) => ExitCode::from(exit.code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot start as the first process: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What has been logged is written before the reason why it ends.
fn log_and_execute(cli: Cli) -> Result<(), Failed> {
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
            let screen = daemon::screen(&common, &config);
            let _log = logging::start(&common, &config.log, screen.clone());
            on_tokio(daemon::run(config, screen, &common))
        }
    }
}

fn execute(command: Command, common: &Common) -> Result<(), Failed> {
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
                status => Err(Failed::Said(status)),
            }
        }
        Command::Plugins(args) => args.execute(),
        Command::Inspect(args) => on_tokio(args.execute(common)),
        Command::Run(args) => on_tokio(args.execute(common)),
    }
}

fn on_tokio(command: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::Runtime(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(command);
    // A read from a file system that hangs must not keep the program from ending. Nor is it shut down: other
    // threads may still use its timers, which would panic, and the program ends with all of them.
    std::mem::forget(runtime);
    result
}

fn runtime(common: &Common, limits: Limits) -> Result<PluginHost, Failed> {
    let cache = if common.no_cache { Cache::none() } else { Cache::user() };
    // Where this program lies cannot be known on some machines; then it compiles by itself.
    let compiler = match program() {
        Some(program) => Compiler::Program(program),
        None => Compiler::Here,
    };
    let runtime = PluginHost::builder()
        .compiler(compiler)
        .cache(cache)
        .limits(limits)
        .build()
        .map_err(|error| Failed::Runtime(format!("cannot run WebAssembly here: {error:#}")))?;
    // Its threads end with the program, and none before the others: a connection uses the timers of the
    // thread that began it.
    std::mem::forget(runtime.clone());
    Ok(runtime)
}

/// This very program, also after its file has been replaced by a newer one.
fn program() -> Option<PathBuf> {
    let this = PathBuf::from("/proc/self/exe");
    if this.exists() { Some(this) } else { std::env::current_exe().ok() }
}

/// A table without lines, as wide as the terminal, but not so narrow that words break.
fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_some_and(|width| width < TABLE_MIN) {
        table.set_width(TABLE_MIN);
    }
    table
}

/// Some terminals say that they have no width at all.
const TABLE_MIN: u16 = 80;

/// Writes to standard output. That nobody reads it any more is not a failure.
fn print(bytes: &[u8]) -> Result<(), Failed> {
    print_by(|out| out.write_all(bytes))
}

/// Writes JSON, for people and programs.
fn print_json(value: &impl Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(Failed::runtime)?;
    print(format!("{text}\n").as_bytes())
}

/// The same, of what is written piece by piece.
fn print_by(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failed> {
    use std::io::ErrorKind;
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failed::Runtime(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

//! The command line: arguments, translated into the library's own calls.

mod inspect;
mod logging;
mod network;
mod permission;
mod plugins;
mod run;

use crate::{
    plugin::{self, Cache, Compiler, Limits, Runtime},
    text::tidy,
};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
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

Exit status: 0 when all went well, 1 for a failure at run time, 2 for wrong arguments or settings.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep a source up to date, and print each new value
    Run(run::RunArgs),
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
    /// What to log to stderr; `RUST_LOG` can say it in more detail
    #[arg(long, global = true, value_enum, default_value = "info", value_name = "LEVEL")]
    log_level: LogLevel,
    /// How to log
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// Compile plugins at each start, and keep nothing of it
    #[arg(long, global = true)]
    no_cache: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
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
    let log = logging::start(&cli.common);
    let result = execute(cli);
    // What has been logged comes before the reason.
    drop(log);
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
        let _ = writeln!(stderr, "{margin}{}", tidy(line));
    }
    ExitCode::from(status)
}

fn execute(cli: Cli) -> Result<(), Failed> {
    match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "host", &mut script);
            print(&script)
        }
        Command::Compile { seconds, memory } => match plugin::serve(seconds, memory) {
            0 => Ok(()),
            status => Err(Failed::Said(status)),
        },
        Command::Plugins(args) => args.execute(),
        Command::Inspect(args) => on_tokio(args.execute(&cli.common)),
        Command::Run(args) => on_tokio(args.execute(&cli.common)),
    }
}

fn on_tokio(command: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::Runtime(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(command);
    // A read from a file system that hangs must not keep the program from ending.
    runtime.shutdown_background();
    result
}

fn runtime(common: &Common, limits: Limits) -> Result<Runtime, Failed> {
    let cache = if common.no_cache { Cache::none() } else { Cache::user() };
    // Where this program lies cannot be known on some machines; then it compiles by itself.
    let compiler = match program() {
        Some(program) => Compiler::Program(program),
        None => Compiler::Here,
    };
    Runtime::compiling(compiler, cache, limits)
        .map_err(|error| Failed::Runtime(format!("cannot run WebAssembly here: {error:#}")))
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

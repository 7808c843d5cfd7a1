//! Command line: commands, their arguments, and the parser. Help and version name the program as it was called.

use crate::{
    check_config::CheckArgs,
    create_token::TokenArgs,
    inspect::InspectArgs,
    log_and_cache_args::CommonArgs,
    plugins_command::PluginsArgs,
    remote_commands::{GetArgs, HistoryArgs, RollbackArgs, SourceArgs, StatusArgs, WatchArgs},
    render::RenderArgs,
    run_one::RunArgs,
    version,
};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use reloader_util::program_name;

/// Keeps configuration values up to date while programs run.
///
/// The host reads values from sources, such as files, Redis keys and URLs, and delivers each new value
/// without a restart. Each source is read by a plugin: a sandboxed WebAssembly component that can access
/// only what its settings and grants name.
///
/// The commands `status`, `get`, `watch`, `history`, `rollback`, `resume` and `reload` query and control a
/// running host, on this machine or over HTTP.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one source and print each new value, or run all sources of a configuration file
    Run(Box<RunArgs>),
    /// Validate a configuration file
    Check(CheckArgs),
    /// Print what the sinks would write to their files, and change nothing
    Render(RenderArgs),
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// Show the status of all sources
    Status(StatusArgs),
    /// Print a source's current value, byte for byte
    Get(GetArgs),
    /// Print a source's current value and each new value
    Watch(WatchArgs),
    /// Show the stored revisions of a source, newest first
    History(HistoryArgs),
    /// Roll a source back to an earlier value and pin it until `resume`
    Rollback(RollbackArgs),
    /// Unpin a source after `rollback`
    Resume(SourceArgs),
    /// Read a source immediately instead of at the next poll
    Reload(SourceArgs),
    /// Create a token for the API, and print the configuration that accepts it
    Token(TokenArgs),
    /// Show the description, settings and grants of a plugin
    Inspect(InspectArgs),
    /// List the bundled plugins, or export one to a file
    Plugins(PluginsArgs),
    /// Print a shell completion script
    Completions {
        /// Shell that runs the script
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

impl Cli {
    /// Parses the command line. Exits after `--help`, `--version`, and errors.
    pub(crate) fn from_command_line() -> Self {
        let matches = Self::parser().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Returns the command-line parser. Its help uses the name under which the program was started.
    pub(crate) fn parser() -> clap::Command {
        let program = program_name::get();
        Self::command()
            .name(program)
            .bin_name(program)
            .version(version::ONE_LINE_VERSION)
            .long_version(version::MULTI_LINE_VERSION)
            .after_help(examples(program))
            .mut_subcommand("run", |run| run.mut_arg("limits", list_limits_below))
            .mut_subcommand("completions", |completions| {
                completions
                    .after_help(format!("Example for bash: source <({program} completions bash)"))
            })
    }
}

/// Replaces the help text of the argument `--limit`, to refer to the list of all limits at the end of `run --help`.
fn list_limits_below(argument: clap::Arg) -> clap::Arg {
    argument
        .help("Resource limit of the plugin; repeatable; `--help` lists all limits")
        .long_help("Resource limit of the plugin; repeatable; listed below")
}

/// Returns the end of the help: examples and exit status.
fn examples(program: &str) -> String {
    let examples = EXAMPLES.map(|(arguments, description)| {
        let command = format!("{program} {arguments}");
        format!("  {command:<50}  {description}").trim_end().to_owned() + "\n"
    });
    format!("Examples:\n{}\n{EXIT_STATUS}", examples.concat())
}

/// Examples of the help: arguments, and what the command does.
const EXAMPLES: [(&str, &str); 8] = [
    ("run --plugin file --set path=app.toml", "print a file and each new version of it"),
    ("run --plugin kvs --set url=redis://localhost --set key=app", ""),
    ("run --plugin http --set url=https://example.com/flags.json --interval 30s", ""),
    ("run --plugin ./mine.wasm --set name=value --once --format raw", ""),
    ("inspect kvs", "show the settings and grants of a plugin"),
    ("check --config reloader.toml", "validate a configuration file"),
    ("run --config reloader.toml", "run all sources of a configuration file"),
    ("status", "show the status of the running host"),
];

const EXIT_STATUS: &str = "\
Exit status: 0 on success, 1 on a runtime error, 2 on invalid arguments or configuration.
`run --config` exits with the exit status of `[command]`; with 0 if the command ends through the
signal with which the host stops it.
While no command is running, `run --config` exits with status 2 as soon as all sources, or one
source that `[command]` requires, have ended. A source ends if it cannot work with its
configuration.";

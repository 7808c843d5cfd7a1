//! Entry point: parses the command line, starts logging, executes the command, and reports its error.

use crate::{
    cli_error::CliError,
    command_line::{Cli, Command},
    log_and_cache_args::CommonArgs,
    logging,
    malloc_settings::configure_malloc,
    program_path::program_path,
    run_config::{self, SignalRequests},
    stdout::print,
    stdout::print_json,
    thread_start_error::{cannot_start, start_threads},
};
use reloader_app::{LogLevel, LogTable};
use reloader_delivery::process;
use reloader_util::{child_process, open_file_limit, program_name, sanitize::sanitize};
use std::{
    io::{self, Write},
    panic::resume_unwind,
    path::Path,
    process::ExitCode,
    thread,
};

/// Stack size of the thread that executes the command, in bytes: the default of the main thread.
const COMMAND_STACK_BYTES: usize = 8 << 20;

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    configure_malloc();
    child_process::ignore_file_size_signal();
    set_program_name();
    let cli = Cli::from_command_line();
    cli.command.disable_core_dumps();
    // The kernel drops the signals that process 1 does not handle, such as SIGINT of Ctrl-C.
    if process::pid1::is_needed() {
        return run_as_pid1();
    }
    match execute_on_thread(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Takes the name of the program from `argv[0]`, so that hints show the name under which the program was called.
fn set_program_name() {
    let called = std::env::args_os().next().unwrap_or_default();
    if let Some(name) = Path::new(&called).file_name() {
        program_name::set(sanitize(&name.to_string_lossy()));
    }
}

/// Runs as PID 1 of a container: spawns the host, forwards signals, reaps orphans.
fn run_as_pid1() -> ExitCode {
    let Some(program) = program_path() else {
        let _ = writeln!(
            io::stderr(),
            "error: cannot find the path of this program; is `/proc` mounted?"
        );
        return ExitCode::FAILURE;
    };
    let mut arguments = std::env::args_os();
    // The child takes the program name in its messages from `argv[0]`, so it gets the `argv[0]` of this process.
    let arg0 = arguments.next();
    match process::pid1::run(&program, arg0.as_deref(), arguments) {
        Ok(exit) => ExitCode::from(exit.code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot run as PID 1: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Executes a command on a thread of its own, and waits for it on the main thread.
///
/// The kernel delivers a signal of the process to the main thread, even if that thread cannot run its handler because a
/// file system does not answer it. The main thread therefore accesses no files.
fn execute_on_thread(cli: Cli) -> Result<(), CliError> {
    // The compiler process stays on the main thread: it handles no signals, and a second stack would count towards its
    // memory limit. It logs nothing.
    if matches!(cli.command, Command::Compile { .. }) {
        return execute(cli.command, &cli.common);
    }
    let thread =
        thread::Builder::new().name("reloader-main".into()).stack_size(COMMAND_STACK_BYTES);
    let command = thread
        .spawn(move || log_and_execute(cli))
        .map_err(|error| cannot_start("the command", &error))?;
    command.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Starts logging and executes a command. Flushes the log before it returns, so that the error message comes last.
fn log_and_execute(cli: Cli) -> Result<(), CliError> {
    // Before the host opens a file. If it fails now, the first start of a command tries it again.
    if matches!(cli.command, Command::Run(_) | Command::Render(_) | Command::Check(_)) {
        let _ = child_process::prepare();
    }
    let Cli { command, common } = cli;
    let Command::Run(run) = command else {
        let mut table = LogTable::default();
        if matches!(command, Command::Render(_)) {
            // The starts and stops of the sources are no events that an operator looks for here.
            table.level = Some(LogLevel::Warn);
        }
        let _log = logging::start(&common, &table, None);
        return execute(command, &common);
    };
    open_file_limit::raise();
    // Before the configuration is read: its file system may not answer.
    let signals = run.has_config().then(SignalRequests::listen).transpose()?;
    match run.config()?.zip(signals) {
        None => {
            let _log = logging::start(&common, &LogTable::default(), None);
            on_tokio(run.execute(&common))
        }
        Some((config, signals)) if let Some(limit) = run.once_limit() => {
            let _log = logging::start(&common, &config.log, None);
            on_tokio(run_config::run_once(config, signals, limit, &common))
        }
        Some((config, signals)) => {
            let status_table = run_config::status_table(&common, &config);
            let _log = logging::start(&common, &config.log, status_table.clone());
            on_tokio(run_config::run(config, signals, status_table, &common))
        }
    }
}

fn execute(command: Command, common: &CommonArgs) -> Result<(), CliError> {
    match command {
        Command::Check(args) => on_tokio(args.execute(common)),
        Command::Render(args) => on_tokio(args.execute(common)),
        Command::Schema => print_json(&reloader_app::schema()),
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
            clap_complete::generate(shell, &mut Cli::parser(), program_name::get(), &mut script);
            print(&script)
        }
        Command::Compile { seconds, memory } => {
            match reloader_plugin_runtime::run_compiler_process(seconds, memory) {
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
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.thread_name("reloader-async").enable_all();
    let part = "the async runtime";
    let runtime = start_threads(part, || builder.build());
    let runtime = runtime.map_err(|error| cannot_start(part, &error))?;
    let result = runtime.block_on(command);
    // The runtime is leaked. A normal shutdown would wait for blocking reads, which may hang on a network file
    // system. After a background shutdown, threads that still use the timers of the runtime would panic.
    std::mem::forget(runtime);
    result
}

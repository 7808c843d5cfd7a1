//! Development tasks of the project. `cargo xtask --help` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

mod demo;
mod fuzz;
mod log_events;
mod mutants;
mod reference;
mod run_program;
mod simulate;
mod soak;

use anyhow::Result;
use clap::{Parser, Subcommand};
use run_program::{add_wasm_target, cargo};

/// Development tasks of the project
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run the benchmarks, which compare the host with alternatives, and save the results in
    /// `bench/`
    Bench {
        /// Run only this benchmark: `in_process_latency`, `neighbours`, `polling`, `run_config`,
        /// `run_one` or `sse_readers`
        name: Option<String>,
    },
    /// Build the host and demonstrate it in a temporary directory
    Demo {
        /// Build with optimisations (slower build, faster startup and reaction)
        #[arg(long)]
        release: bool,
    },
    /// Fuzz the parsers of untrusted input: components, settings, addresses, servers' responses
    ///
    /// Requires a C++ compiler. Findings are saved in the target directory; the command that
    /// reproduces a finding is printed.
    Fuzz(fuzz::Arguments),
    /// Write `docs/reference/log-events.md`, the list of log events, from the source
    LogEvents {
        /// Only compare the document with the source
        #[arg(long)]
        check: bool,
    },
    /// Change the engine in many small ways and check that its tests detect each change
    ///
    /// Uses cargo-mutants; skipped if it is not installed. Takes about an hour.
    Mutants {
        /// Arguments for `cargo mutants`, e.g. `--file host/crates/engine/src/watch.rs`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write the reference documents that are generated from the program: configuration file, command
    /// line, HTTP API and metrics
    Reference {
        /// Only compare the documents with the program
        #[arg(long)]
        check: bool,
    },
    /// Run the engine in simulated environments with random faults and check its contract
    Simulate {
        /// Number of simulations
        #[arg(long, default_value_t = 1_000_000)]
        seeds: u64,
        /// Seed of the first simulation
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Run the host for a long time with sources and sinks of all kinds, inject random faults, and check that no
    /// change is lost, revisions never decrease, and memory, threads and open files do not grow
    ///
    /// Uses Redis if it is installed. If run as root, also tests a full disk and a file system that does not answer.
    Soak(soak::Arguments),
    /// Run all tests: host, SDK, plugins, end-to-end
    Test {
        /// Arguments for `cargo test`, e.g. the name of a test
        #[arg(trailing_var_arg = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Bench { name } => bench(name.as_deref()),
        Task::Demo { release } => demo::run(release),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::LogEvents { check } => log_events::run(check),
        Task::Mutants { arguments } => mutants::run(&arguments),
        Task::Reference { check } => reference::run(check),
        Task::Simulate { seeds, from } => simulate::run(seeds, from),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Test { arguments } => test(&arguments),
    }
}

fn bench(name: Option<&str>) -> Result<()> {
    add_wasm_target()?;
    let chosen = match name {
        // Earlier name of the benchmark `run_config`.
        Some("machine") => vec!["--bench", "run_config"],
        Some(name) => vec!["--bench", name],
        None => vec!["--benches"],
    };
    cargo(".").args(["bench", "--locked", "-p", "e2e"]).args(chosen).run()
}

fn test(arguments: &[String]) -> Result<()> {
    add_wasm_target()?;
    cargo(".").args(["test", "--workspace", "--locked"]).args(arguments).run()?;
    // Runs the unit tests of the plugins natively; `tests/` tests the built components. The plugins are a workspace
    // of their own, which is built in the directory `guests`.
    let guests = run_program::target_directory()?.join("guests");
    cargo("plugins").args(["test", "--locked", "--target-dir"]).arg(guests).args(arguments).run()
}

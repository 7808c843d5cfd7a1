//! The project's chores. `cargo xtask --help` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "chores talk to people")]

mod demo;
mod fuzz;
mod simulate;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tools::{add_wasm_target, cargo};

/// The project's chores.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Measures the host beside what one would use instead, and keeps the results in `bench/`
    Bench {
        /// One of them: `machine`, `neighbours`, `polling`, `program`, `reaction` or `readers`
        name: Option<String>,
    },
    /// Shows the host at work, in a directory of its own, with nothing to install
    Demo {
        /// Build with optimisation (takes longer, starts and reacts faster)
        #[arg(long)]
        release: bool,
    },
    /// Feeds what reads bytes from outside (components, settings, addresses, servers' answers) with
    /// bytes that nobody thought of
    ///
    /// Needs a C++ compiler. What it finds is kept in the target directory, with how to run it again.
    Fuzz(fuzz::Arguments),
    /// Lets the engine live through faulty worlds, each drawn from a number, and checks that it keeps
    /// its contract
    Simulate {
        /// How many worlds
        #[arg(long, default_value_t = 1_000_000)]
        seeds: u64,
        /// The number of the first one
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Runs all tests: of the host, the SDK, the plugins, and end to end
    Test {
        /// Passed on to `cargo test`, e.g. the name of a test
        #[arg(trailing_var_arg = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Cli::parse().chore {
        Chore::Bench { name } => bench(name.as_deref()),
        Chore::Demo { release } => demo::run(release),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
        Chore::Simulate { seeds, from } => simulate::run(seeds, from),
        Chore::Test { arguments } => test(&arguments),
    }
}

fn bench(name: Option<&str>) -> Result<()> {
    add_wasm_target()?;
    let chosen = match name {
        Some(name) => vec!["--bench", name],
        None => vec!["--benches"],
    };
    cargo(".").args(["bench", "--locked", "-p", "e2e"]).args(chosen).run()
}

fn test(arguments: &[String]) -> Result<()> {
    add_wasm_target()?;
    cargo(".").args(["test", "--workspace", "--locked"]).args(arguments).run()?;
    // The plugins' logic, natively; as components they are tested from `tests/`.
    let guests = tools::target_directory()?.join("guests");
    cargo("plugins").args(["test", "--locked", "--target-dir"]).arg(guests).args(arguments).run()
}

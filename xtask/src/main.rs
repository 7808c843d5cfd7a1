//! The project's chores. `cargo xtask --help` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "chores talk to people")]

mod demo;
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
    /// Shows the host at work, in a directory of its own, with nothing to install
    Demo {
        /// Build with optimisation (takes longer, starts and reacts faster)
        #[arg(long)]
        release: bool,
    },
    /// Runs all tests: of the host, the SDK, the plugins, and end to end
    Test {
        /// Passed on to `cargo test`, e.g. the name of a test
        #[arg(trailing_var_arg = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    add_wasm_target()?;
    match cli.chore {
        Chore::Demo { release } => demo::run(release),
        Chore::Test { arguments } => test(&arguments),
    }
}

fn test(arguments: &[String]) -> Result<()> {
    cargo(".").args(["test", "--workspace", "--locked"]).args(arguments).run()?;
    // The plugins' logic, natively; as components they are tested from `tests/`.
    let guests = tools::target_directory()?.join("guests");
    cargo("plugins").args(["test", "--locked", "--target-dir"]).arg(guests).args(arguments).run()
}

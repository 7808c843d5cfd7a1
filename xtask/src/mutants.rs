//! `cargo xtask mutants`: mutation testing of the engine with cargo-mutants.

use crate::run_program::{cargo, root, target_directory};
use anyhow::{Context, Result};
use std::process::{Command, Stdio};

/// Number of simulations for each mutant. A small number suffices, since the unit tests detect most mutants.
const SIMULATIONS: &str = "2000";
/// Time limit of the tests of a mutant, in seconds: some mutants loop forever.
const TEST_TIMEOUT: &str = "60";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !is_installed() {
        println!("skipped: cargo-mutants is not installed (cargo install cargo-mutants --locked)");
        return Ok(());
    }
    let output = target_directory()?;
    println!("report: {}", output.join("mutants.out").display());
    cargo(".")
        .args([
            "mutants",
            "--package",
            "reloader-engine",
            "--features",
            "decode",
            "--timeout",
            TEST_TIMEOUT,
        ])
        .arg("--output")
        .arg(output)
        .args(arguments)
        .args(["--", "--lib"])
        .env("SIMULATE_SEEDS", SIMULATIONS)
        .run()
        .context("some mutants are not detected, or the tests fail; the report lists them")
}

fn is_installed() -> bool {
    let version = Command::new("cargo")
        .args(["mutants", "--version"])
        .current_dir(root())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

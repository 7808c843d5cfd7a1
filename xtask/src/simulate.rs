//! `cargo xtask simulate`: the engine's simulation test with optimisations and many more seeds.

use crate::run_program::cargo;
use anyhow::{Context, Result};

pub(crate) fn run(seeds: u64, from: u64) -> Result<()> {
    println!("building, then running {seeds} simulations from seed {from} …");
    cargo(".")
        .args(["test", "--release", "--locked", "-p", "reloader-engine"])
        .args(["--lib", "sim::faulty_environments_converge", "--", "--exact", "--nocapture"])
        .env("SIMULATE_SEEDS", seeds.to_string())
        .env("SIMULATE_FROM", from.to_string())
        .run()
        .context("a simulation failed; the output above shows how to reproduce it")
}

//! The engine's simulation, optimised: many more worlds than the tests have time for.

use crate::tools::cargo;
use anyhow::{Context, Result};

pub(crate) fn run(seeds: u64, from: u64) -> Result<()> {
    println!("{seeds} worlds from number {from} on (what runs them is built first) …");
    cargo(".")
        .args(["test", "--release", "--locked", "-p", "reloader-engine"])
        .args(["--lib", "sim::faulty_worlds_converge", "--", "--exact", "--nocapture"])
        .env("SIMULATE_SEEDS", seeds.to_string())
        .env("SIMULATE_FROM", from.to_string())
        .run()
        .context("a world did not end well: the lines above say how to see all of it")
}

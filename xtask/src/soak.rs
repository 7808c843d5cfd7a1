//! `cargo xtask soak`: builds and starts the soak test of package `e2e`.

use crate::run_program::{Tool, add_wasm_target, cargo, target_directory};
use anyhow::{Context, Result, bail};
use std::{
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Duration of the fault injection and of the following phase without faults, such as `60s`, `30m` or `1h`. In
    /// addition, the test waits up to 1 minute at the start for the first deliveries, and up to 2 minutes after the
    /// fault injection for the last deliveries
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    duration: Duration,
    /// Seed of the faults. Default: the current time
    #[arg(long)]
    seed: Option<u64>,
    /// Test a build with optimisations, to measure memory and time. The default is a development build, which also
    /// checks debug assertions and integer overflows
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    add_wasm_target()?;
    let profile = if arguments.release { "release" } else { "dev" };
    // Builds with the features of the whole workspace, so that other tasks reuse the build.
    cargo(".")
        .args(["build", "--workspace", "--bin", "e2e-host", "--bin", "e2e-soak", "--locked"])
        .args(["--profile", profile])
        .run()?;
    let folder = if arguments.release { "release" } else { "debug" };
    let program = target_directory()?.join(folder).join("e2e-soak");
    let random_seed = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs());
    let seed = arguments.seed.unwrap_or_else(random_seed);
    // A private mount namespace: no mount of the test remains if the test is interrupted.
    let tool = if may_unshare_mounts() {
        Tool::new("unshare").arg("--mount").arg(program)
    } else {
        Tool::new(program)
    };
    tool.args([arguments.duration.as_secs().to_string(), seed.to_string()]).run()
}

/// Returns whether this process may create a mount namespace.
fn may_unshare_mounts() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "true"]).stderr(Stdio::null());
    unshare.status().is_ok_and(|status| status.success())
}

fn parse_duration(text: &str) -> Result<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().context("expected a number and a unit, such as `30m`")?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => bail!("unknown unit `{unit}`; expected `s`, `m` or `h`"),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

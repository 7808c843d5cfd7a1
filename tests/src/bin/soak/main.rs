//! Soak test: runs the host for a long time with sources and sinks of all kinds, changes their values, injects faults
//! that a seeded random generator chooses, and checks that no change is lost, no revision falls, and no resource grows.
//!
//! `cargo xtask soak` builds and starts this program with two arguments, the duration in seconds and the seed.
#![allow(clippy::print_stdout, reason = "a command line program")]

mod api_client;
mod configuration;
mod convergence;
mod environment;
mod faults;
mod growth;
mod host;
mod host_log;
mod monitor;
mod random;
mod report;
mod run;
mod sources;
mod state_disk;
mod subscriber;
mod value_server;

use environment::Environment;
use random::Rng;
use run::Settings;
use std::{env, process::ExitCode, time::Duration};

fn main() -> ExitCode {
    let arguments: Vec<u64> = env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [seconds, seed] = arguments[..] else {
        println!("usage: e2e-soak SECONDS SEED; use `cargo xtask soak`");
        return ExitCode::from(2);
    };
    let settings = Settings { duration: Duration::from_secs(seconds), seed };
    println!("soak test of {}: {seconds} s, seed {seed}", e2e::program().display());
    let mut rng = Rng::new(seed);
    let environment = Environment::new(&mut rng);
    let report = run::run(&environment, settings, &mut rng);
    report.print();
    if report.violations.is_empty() {
        return ExitCode::SUCCESS;
    }
    let directory = environment.keep();
    println!("log of the host: {}", directory.join("host.log").display());
    ExitCode::FAILURE
}

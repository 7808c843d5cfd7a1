//! Deterministic simulation: one source with random faults, its engine, and an oracle that knows
//! the actual state of the source. The time is virtual.
//!
//! The seed of a simulation determines everything in it: the values of the source, failures,
//! delays, lost and duplicated events, and restarts of the host. At a random time the environment
//! heals: faults end. The engine then has to converge, i.e. publish the value of the source.
//! At every step, `oracle` checks the other guarantees of the engine (section *Contract* of the crate
//! documentation).
//!
//! - `cargo xtask simulate --seeds 1000000` runs the test [`faulty_environments_converge`] with
//!   many seeds, optimized.
//! - `SIMULATE_SEED=123 cargo test -p reloader-engine --lib sim -- --nocapture` runs one simulation
//!   and prints its trace.
//!
//! The modules:
//!
//! - `source`: the source and the validator.
//! - `faulty_environment`: the operator, and the transport between source and engine.
//! - `faults`: the fault probabilities.
//! - `host`: in place of the driver (crate `reloader-source`), executes the effects of the engine.

mod faults;
mod faulty_environment;
mod host;
mod oracle;
mod rng;
mod source;

use host::Host;
use oracle::Violation;
use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

/// Runs one simulation. Returns the number of its steps, or the violation.
fn run(seed: u64) -> Result<u32, Violation> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut host = Host::new(seed, false);
        host.run().map(|()| host.steps())
    }));
    outcome.unwrap_or_else(|_| Err(Violation { point: 8, description: "panic".into() }))
}

/// Runs one simulation. Returns its trace: the events of the simulation and its result, as text.
fn trace(seed: u64) -> String {
    let mut host = Host::new(seed, true);
    let end = catch_unwind(AssertUnwindSafe(|| host.run()));
    format!("{}\n{end:?}", host.into_trace().join("\n"))
}

/// Runs simulations in parallel. Returns the total number of steps, or the lowest failing seed with
/// its violation.
fn first_failure(from: u64, seeds: u64) -> Result<u64, (u64, Violation)> {
    const SEEDS_PER_CHUNK: u64 = 64;
    let next = AtomicU64::new(from);
    let end = from + seeds;
    let worker = || {
        let mut steps = 0;
        loop {
            let chunk = next.fetch_add(SEEDS_PER_CHUNK, Ordering::Relaxed);
            if chunk >= end {
                return Ok(steps);
            }
            for seed in chunk..end.min(chunk + SEEDS_PER_CHUNK) {
                match run(seed) {
                    Ok(taken) => steps += u64::from(taken),
                    Err(violation) => {
                        // The other workers finish their chunk and take no further one.
                        next.store(end, Ordering::Relaxed);
                        return Err((seed, violation));
                    }
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let ends = workers.into_iter().map(|worker| worker.join().expect("worker thread panicked"));
        let (mut steps, mut first) = (0, None::<(u64, Violation)>);
        for end in ends {
            match end {
                Ok(taken) => steps += taken,
                Err(failed) => {
                    if first.as_ref().is_none_or(|(seed, _)| failed.0 < *seed) {
                        first = Some(failed);
                    }
                }
            }
        }
        first.map_or(Ok(steps), Err)
    })
}

fn env_number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Runs many simulations and checks that each converges without a violation. `cargo xtask simulate`
/// runs this test by its name.
#[test]
#[expect(clippy::print_stderr, reason = "progress output of --nocapture and of failures")]
fn faulty_environments_converge() {
    if let Some(seed) = env_number("SIMULATE_SEED") {
        eprintln!("{}", trace(seed));
        run(seed).unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));
        return;
    }
    let from = env_number("SIMULATE_FROM").unwrap_or(0);
    let seeds = env_number("SIMULATE_SEEDS").unwrap_or(100_000);
    let start = Instant::now();
    match first_failure(from, seeds) {
        Ok(steps) => {
            let elapsed = start.elapsed().as_secs_f64();
            let rate = seeds as f64 / elapsed;
            eprintln!(
                "{seeds} simulations, {steps} steps, {elapsed:.1} s: {rate:.0} simulations per second"
            );
        }
        Err((seed, Violation { point, description })) => panic!(
            "{}\n\nseed {seed}: point {point} of the contract violated: {description}\n\
             reproduce: SIMULATE_SEED={seed} cargo test -p reloader-engine --lib sim -- \
             --nocapture",
            trace(seed)
        ),
    }
}

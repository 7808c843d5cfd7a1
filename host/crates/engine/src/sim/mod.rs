//! Deterministic simulation: one source with random faults, its engine, and an oracle that knows
//! the actual state of the source. The time is virtual.
//!
//! The seed of a world determines everything in it: the values of the source, failures, delays,
//! lost and duplicated events, and restarts of the host. At a random time the world heals: faults
//! end. The engine then has to converge, i.e. publish the value of the source. `oracle` checks the
//! rest of the contract at every step.
//!
//! - `cargo xtask simulate --seeds 1000000` runs the test [`faulty_worlds_converge`] with many
//!   worlds, optimized.
//! - `SIMULATE_SEED=123 cargo test -p reloader-engine --lib sim -- --nocapture` runs one world and
//!   prints its trace.
//!
//! `source` models the source and the validator, `world` the transport between the source and the
//! engine, `faults` the fault probabilities, and `host` the driver.

mod faults;
mod host;
mod oracle;
mod rng;
mod source;
mod world;

use super::tests::NAMED_CHECKS;
use crate::mutations::{Mutation, Mutations};
use host::Host;
use oracle::Violation;
use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

/// Runs one world. Returns the number of its steps, or the violation.
fn run(seed: u64, mutation: Option<Mutation>) -> Result<u32, Violation> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut host = Host::new(seed, mutation, false);
        host.run().map(|()| host.steps())
    }));
    outcome.unwrap_or_else(|_| Err(Violation { point: 8, description: "panic".into() }))
}

/// Runs one world and returns its trace.
fn trace(seed: u64, mutation: Option<Mutation>) -> String {
    let mut host = Host::new(seed, mutation, true);
    let end = catch_unwind(AssertUnwindSafe(|| host.run()));
    format!("{}\n{end:?}", host.into_trace().join("\n"))
}

/// Runs worlds in parallel. Returns the total number of steps, or the lowest failing seed with its
/// violation.
fn first_failure(
    from: u64,
    seeds: u64,
    mutation: Option<Mutation>,
) -> Result<u64, (u64, Violation)> {
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
                match run(seed, mutation) {
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

/// Runs many worlds and checks that each converges without a violation. `cargo xtask simulate` runs
/// this test by its name.
#[test]
#[expect(clippy::print_stderr, reason = "progress output of --nocapture and of failures")]
fn faulty_worlds_converge() {
    if let Some(seed) = env_number("SIMULATE_SEED") {
        eprintln!("{}", trace(seed, None));
        run(seed, None).unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));
        return;
    }
    let from = env_number("SIMULATE_FROM").unwrap_or(0);
    let seeds = env_number("SIMULATE_SEEDS").unwrap_or(100_000);
    let start = Instant::now();
    match first_failure(from, seeds, None) {
        Ok(steps) => {
            let elapsed = start.elapsed().as_secs_f64();
            let rate = seeds as f64 / elapsed;
            eprintln!("{seeds} worlds, {steps} steps, {elapsed:.1} s: {rate:.0} worlds per second");
        }
        Err((seed, Violation { point, description })) => panic!(
            "{}\n\nseed {seed}: point {point} of the contract violated: {description}\n\
             reproduce: SIMULATE_SEED={seed} cargo test -p reloader-engine --lib sim -- \
             --nocapture",
            trace(seed, None)
        ),
    }
}

/// Runs the simulation, or the named check, with each mutation.
#[test]
#[expect(clippy::print_stderr, reason = "progress output of --nocapture and of failures")]
fn mutations_are_detected() {
    /// Number of worlds for each mutation. The rarest mutation is detected by one world in 10,000.
    const WORLDS_PER_MUTATION: u64 = 100_000;
    let missed: Vec<_> = Mutation::ALL
        .iter()
        .copied()
        .filter(|mutation| match NAMED_CHECKS.iter().find(|(named, _)| named == mutation) {
            Some((_, check)) => {
                let passed = catch_unwind(|| check(Mutations { active: Some(*mutation) })).is_ok();
                eprintln!("{mutation:?}: named check {}", if passed { "passes" } else { "fails" });
                passed
            }
            None => match first_failure(0, WORLDS_PER_MUTATION, Some(*mutation)) {
                Ok(_) => {
                    eprintln!("{mutation:?}: not detected");
                    true
                }
                Err((seed, Violation { point, description })) => {
                    eprintln!(
                        "{mutation:?}: detected by seed {seed}: point {point}: {description}"
                    );
                    false
                }
            },
        })
        .collect();
    assert_eq!(missed, [], "undetected mutations");
}

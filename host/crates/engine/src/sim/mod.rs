//! One source in a faulty world, its engine, and an oracle that knows the truth; in virtual time.
//!
//! Everything that happens follows from a seed: what the source holds and when, what fails, hangs,
//! comes late or twice, when the host starts anew. After a while the world heals; then what is
//! published has to become what the source holds. `oracle` checks the rest of the contract at every
//! step.
//!
//! - `cargo xtask simulate --seeds 1000000`: many worlds, quickly.
//! - `SIMULATE_SEED=123 cargo test -p reloader-engine --lib sim -- --nocapture`: one of them, with
//!   all that happens in it.
//!
//! `source` is what the source holds and what the validator says of it, `world` what is between it and
//! the engine, `faults` what goes wrong there, `host` the driver.

mod faults;
mod host;
mod oracle;
mod rng;
mod source;
mod world;

use super::tests::FOUND_BY_NAME;
use crate::mutations::{Bug, Bugs};
use host::Host;
use oracle::Violation;
use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

/// Runs one world. The number of its steps, or what is wrong.
fn run(seed: u64, bug: Option<Bug>) -> Result<u32, Violation> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut host = Host::new(seed, bug, false);
        host.run().map(|()| host.steps())
    }));
    lived.unwrap_or_else(|_| Err(Violation { point: 8, what: "a panic".into() }))
}

/// The same with all that happens in it.
fn trace(seed: u64, bug: Option<Bug>) -> String {
    let mut host = Host::new(seed, bug, true);
    let end = catch_unwind(AssertUnwindSafe(|| host.run()));
    format!("{}\n{end:?}", host.into_trace().join("\n"))
}

/// The first of these seeds that something is wrong with; else the number of steps.
fn first_failure(from: u64, seeds: u64, bug: Option<Bug>) -> Result<u64, (u64, Violation)> {
    const CHUNK: u64 = 64;
    let next = AtomicU64::new(from);
    let end = from + seeds;
    let worker = || {
        let mut steps = 0;
        loop {
            let chunk = next.fetch_add(CHUNK, Ordering::Relaxed);
            if chunk >= end {
                return Ok(steps);
            }
            for seed in chunk..end.min(chunk + CHUNK) {
                match run(seed, bug) {
                    Ok(taken) => steps += u64::from(taken),
                    Err(violation) => {
                        // The others finish what they have, and take nothing more.
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
        let ends = workers.into_iter().map(|worker| worker.join().expect("a worker"));
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

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

#[test]
#[expect(clippy::print_stderr, reason = "it is shown with --nocapture, and after a failure")]
fn faulty_worlds_end_well() {
    if let Some(seed) = number("SIMULATE_SEED") {
        eprintln!("{}", trace(seed, None));
        run(seed, None).unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));
        return;
    }
    let from = number("SIMULATE_FROM").unwrap_or(0);
    let seeds = number("SIMULATE_SEEDS").unwrap_or(100_000);
    let start = Instant::now();
    match first_failure(from, seeds, None) {
        Ok(steps) => {
            let took = start.elapsed().as_secs_f64();
            let rate = seeds as f64 / took;
            eprintln!("{seeds} worlds, {steps} steps, {took:.1} s: {rate:.0} worlds per second");
        }
        Err((seed, Violation { point, what })) => panic!(
            "{}\n\nseed {seed}: point {point} of the contract: {what}\n\
             again: SIMULATE_SEED={seed} cargo test -p reloader-host --no-default-features --lib \
             engine::sim -- --nocapture",
            trace(seed, None)
        ),
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "it is shown with --nocapture, and after a failure")]
fn each_seeded_bug_is_caught() {
    /// The rarest one is caught by one in ten thousand.
    const ENOUGH: u64 = 100_000;
    let missed: Vec<_> = Bug::ALL
        .iter()
        .copied()
        .filter(|bug| match FOUND_BY_NAME.iter().find(|(named, _)| named == bug) {
            Some((_, check)) => {
                let passed = catch_unwind(|| check(Bugs { on: Some(*bug) })).is_ok();
                eprintln!("{bug:?}: its own test {}", if passed { "passes" } else { "fails" });
                passed
            }
            None => match first_failure(0, ENOUGH, Some(*bug)) {
                Ok(_) => {
                    eprintln!("{bug:?}: not caught");
                    true
                }
                Err((seed, Violation { point, what })) => {
                    eprintln!("{bug:?}: caught by seed {seed}: point {point}: {what}");
                    false
                }
            },
        })
        .collect();
    assert_eq!(missed, [], "of these nobody would notice anything");
}

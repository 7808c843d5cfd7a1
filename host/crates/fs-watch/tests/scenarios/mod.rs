//! Scenarios of file changes, independent of the watcher under test.
//!
//! A scenario sets up a world and runs steps in it. Each step states the content of the watched
//! path after the step, which the watcher under test must report.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]
#![allow(unreachable_pub, reason = "each test crate includes this file as a module")]
#![allow(dead_code, reason = "each test crate uses a part of this module")]

mod hard_links;
mod kubernetes_volume;
mod mounts;
mod parent_directories;
mod polled_filesystems;
mod scenario;
mod scenario_constructors;
mod symlinks;
mod world;
mod writers;

pub use scenario::{Scenario, Then};
pub use world::World;

use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
};

/// All scenarios, grouped by module.
const ALL: [&[Scenario]; 7] = [
    writers::SCENARIOS,
    hard_links::SCENARIOS,
    symlinks::SCENARIOS,
    kubernetes_volume::SCENARIOS,
    parent_directories::SCENARIOS,
    mounts::SCENARIOS,
    polled_filesystems::SCENARIOS,
];

/// Number of threads that run scenarios.
const SCENARIO_THREADS: usize = 4;

/// Runs every supported scenario with each case, several at a time. Panics with the list of
/// failures. A case is a variant of the watcher under test, such as its strategy.
pub fn run_all<C: Copy + Display + Send + Sync>(
    cases: &[C],
    run: impl Fn(&Scenario, C) -> Result<(), String> + Sync,
) {
    let failures = Mutex::new(Vec::new());
    let all = ALL
        .into_iter()
        .flatten()
        .flat_map(|scenario| cases.iter().map(move |case| (scenario, *case)));
    let queue = Mutex::new(all);
    thread::scope(|scope| {
        for _ in 0..SCENARIO_THREADS {
            scope.spawn(|| {
                loop {
                    let Some((scenario, case)) = queue.lock().unwrap().next() else { return };
                    if let Some(need) = scenario.needs.iter().find(|need| !need.is_met()) {
                        println!("{}: skipped, {need:?} is not available", scenario.name);
                        continue;
                    }
                    let result = catch_unwind(AssertUnwindSafe(|| run(scenario, case)));
                    let result = result.unwrap_or_else(|_| Err("panicked".into()));
                    if let Err(error) = result {
                        failures
                            .lock()
                            .unwrap()
                            .push(format!("{}, {case}: {error}", scenario.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}

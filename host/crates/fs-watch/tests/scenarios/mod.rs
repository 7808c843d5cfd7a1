//! Scenarios of file changes, independent of the watcher under test.
//!
//! A scenario sets up a world and runs steps in it. Each step states the content of the watched
//! path after the step, which the watcher under test must report.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]
#![allow(unreachable_pub, reason = "each test crate includes this file as a module")]
#![allow(dead_code, reason = "each test crate uses a part of this module")]

mod table;
mod world;

pub use table::SCENARIOS;
pub use world::World;

use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
};

/// Number of threads that run scenarios.
const SCENARIO_THREADS: usize = 4;

/// Sequence of changes to a watched path.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// Features that the test machine must support. Otherwise, the scenario is skipped.
    pub needs: &'static [Need],
    /// The kernel reports every change, so that the watcher needs no polling.
    pub kernel_events: bool,
    pub set_up: fn(&mut World),
    pub steps: &'static [Step],
}

/// Change, and the content of the watched path afterwards.
#[derive(Clone, Copy)]
pub struct Step {
    pub then: Then,
    pub act: fn(&mut World),
}

/// Content of the watched path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Is(&'static str),
    /// No file exists, or the file is not readable.
    Gone,
}

/// Feature that only some machines and users have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Permission to mount.
    Mount,
    /// The program `bindfs`, which exports a directory through FUSE.
    Bindfs,
}

impl Need {
    /// Tests whether the feature is available by using it.
    pub fn is_met(self) -> bool {
        let mut world = World::new();
        match self {
            Self::Mount => {
                world.create_dir("m");
                world.try_mount(&["-t", "tmpfs", "tmpfs"], "m")
            }
            Self::Bindfs => {
                world.create_dir("a");
                world.create_dir("b");
                world.try_bindfs("a", "b")
            }
        }
    }
}

/// Runs every supported scenario with each case, several at a time. Panics with the list of
/// failures.
pub fn run_all<C: Copy + Display + Send + Sync>(
    cases: &[C],
    run: impl Fn(&Scenario, C) -> Result<(), String> + Sync,
) {
    let failures = Mutex::new(Vec::new());
    let all = SCENARIOS.iter().flat_map(|scenario| cases.iter().map(move |case| (scenario, *case)));
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

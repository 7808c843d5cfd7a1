//! The ways in which files change: a table of scenarios, which knows nothing of who watches.
//!
//! A scenario is a world, set up in a certain way, and steps; each says what the watched path holds
//! when it is done, and whoever watches must come to know that.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(unreachable_pub, reason = "each crate of tests includes this as a module of its own")]
#![allow(dead_code, reason = "of which each uses what it needs")]

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

/// One way in which a file changes.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// What must be possible here. Otherwise it is skipped.
    pub needs: &'static [Need],
    /// Whether the kernel tells of every change, so that nobody needs to look from time to time.
    pub told: bool,
    pub set_up: fn(&mut World),
    pub steps: &'static [Step],
}

/// What is done, and what there is then.
#[derive(Clone, Copy)]
pub struct Step {
    pub then: Then,
    pub act: fn(&mut World),
}

/// What the watched path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Is(&'static str),
    /// There is no file, or none that can be read.
    Gone,
}

/// What not every machine and user can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Mounting, which takes privileges.
    Mount,
    /// `bindfs`, which shows a directory through FUSE.
    Bindfs,
}

impl Need {
    /// Whether it is possible here; tried, not guessed.
    pub fn is_met(self) -> bool {
        let mut world = World::new();
        match self {
            Self::Mount => {
                world.directory("m");
                world.try_mount(&["-t", "tmpfs", "tmpfs"], "m")
            }
            Self::Bindfs => {
                world.directory("a");
                world.directory("b");
                world.try_bindfs("a", "b")
            }
        }
    }
}

/// Runs every scenario that is possible here in each case, some at the same time, and fails with all that
/// has failed.
pub fn run_all<C: Copy + Display + Send + Sync>(
    cases: &[C],
    run: impl Fn(&Scenario, C) -> Result<(), String> + Sync,
) {
    let failures = Mutex::new(Vec::new());
    let all = SCENARIOS.iter().flat_map(|scenario| cases.iter().map(move |case| (scenario, *case)));
    let queue = Mutex::new(all);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((scenario, case)) = queue.lock().unwrap().next() else { return };
                    if let Some(need) = scenario.needs.iter().find(|need| !need.is_met()) {
                        println!("{}: skipped, for want of {need:?}", scenario.name);
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

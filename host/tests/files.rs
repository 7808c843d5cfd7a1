//! Files that change in all the ways that files do, seen by the file layer alone.
#![cfg(all(feature = "file-reloader", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and says so"
)]

mod consumer;
mod scenarios;

use consumer::{Consumer, text};
use reloader_host::file::FileWatcher;
use scenarios::{SCENARIOS, Scenario, Then, World};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Longer than any test: events alone must do.
const NEVER: Duration = Duration::from_secs(3600);

fn run(scenario: &Scenario, patience: Duration) -> Result<(), String> {
    let mut world = World::new();
    (scenario.set_up)(&mut world);
    let probe = if scenario.told { NEVER } else { Duration::from_millis(20) };
    let files = FileWatcher::new().probe_every(probe);
    let runtime = Runtime::new().unwrap();
    let mut consumer = runtime.block_on(Consumer::start(&files, world.path(), patience));
    for (number, step) in scenario.steps.iter().enumerate() {
        let before = Instant::now();
        (step.act)(&mut world);
        let content = match step.then {
            Then::Is(content) => Some(content.as_bytes()),
            Then::Gone => None,
        };
        assert_eq!(text(world.content().as_deref()), text(content), "step {number} is wrong");
        runtime
            .block_on(consumer.comes_to_know(content))
            .map_err(|error| format!("step {number}: {error}"))?;
        println!("{}, step {number}: {:?}", scenario.name, before.elapsed());
    }
    Ok(())
}

#[test]
fn every_change_arrives() {
    every_change_arrives_with(NEVER);
}

#[test]
fn every_change_arrives_at_who_begins_to_wait_again_and_again() {
    every_change_arrives_with(Duration::from_millis(1));
}

fn every_change_arrives_with(patience: Duration) {
    let failures = Mutex::new(Vec::new());
    let queue = Mutex::new(SCENARIOS.iter());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(scenario) = queue.lock().unwrap().next() else { return };
                    if let Some(need) = scenario.needs.iter().find(|need| !need.is_met()) {
                        println!("{}: skipped, for want of {need:?}", scenario.name);
                        continue;
                    }
                    let result = catch_unwind(AssertUnwindSafe(|| run(scenario, patience)));
                    let result = result.unwrap_or_else(|_| Err("panicked".into()));
                    if let Err(error) = result {
                        failures.lock().unwrap().push(format!("{}: {error}", scenario.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}

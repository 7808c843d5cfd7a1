//! Files that change in all the ways that files do, seen by the file layer alone.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and says so"
)]

mod consumer;
mod scenarios;

use consumer::{Consumer, text};
use reloader_fs_watch::FileWatcher;
use scenarios::{Scenario, Then, World, run_all};
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, time::timeout};

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
    run_all(&["by events or looks"], |scenario, _| run(scenario, patience));
}

#[test]
fn a_way_that_came_and_went_while_nobody_waited_is_told() {
    // Whoever read while it was there knows what is not there any more.
    let directory = tempfile::tempdir().unwrap();
    let way = directory.path().join("way");
    let files = FileWatcher::new().probe_every(NEVER);
    Runtime::new().unwrap().block_on(async {
        let mut watch = files.watch(&way.join("file")).await.unwrap();
        fs::create_dir(&way).unwrap();
        fs::write(way.join("file"), "for a moment").unwrap();
        fs::remove_dir_all(&way).unwrap();
        timeout(Duration::from_secs(20), watch.changed()).await.unwrap().unwrap();
    });
}

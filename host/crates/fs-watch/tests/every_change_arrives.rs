//! Scenarios of file changes, run with a [`FileWatcher`] alone, without a host.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed precondition fails the test, and progress is printed"
)]

mod consumer;
mod scenarios;

use consumer::{Consumer, NEVER, text};
use reloader_fs_watch::FileWatcher;
use scenarios::{Scenario, Then, World, run_all};
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, time::timeout};

fn run(scenario: &Scenario, wait_timeout: Duration) -> Result<(), String> {
    let mut world = World::new();
    (scenario.set_up)(&mut world);
    let poll_interval = if scenario.kernel_events { NEVER } else { Duration::from_millis(20) };
    let files = FileWatcher::new().poll_interval(poll_interval);
    let runtime = Runtime::new().unwrap();
    let mut consumer = runtime.block_on(Consumer::start(&files, world.path(), wait_timeout));
    for (number, step) in scenario.steps.iter().enumerate() {
        let before = Instant::now();
        (step.act)(&mut world);
        let content = match step.then {
            Then::Is(content) => Some(content.as_bytes()),
            Then::Gone => None,
        };
        assert_eq!(
            text(world.content().as_deref()),
            text(content),
            "step {number} has another result than the scenario states"
        );
        runtime
            .block_on(consumer.wait_for(content))
            .map_err(|error| format!("step {number}: {error}"))?;
        println!("{}, step {number}: {:?}", scenario.name, before.elapsed());
    }
    Ok(())
}

#[test]
fn every_change_arrives() {
    run_scenarios(NEVER);
}

/// The consumer drops its call of `PathWatch::changed` every millisecond and starts another one.
#[test]
fn every_change_survives_dropped_waits() {
    run_scenarios(Duration::from_millis(1));
}

fn run_scenarios(wait_timeout: Duration) {
    run_all(&["events or polling"], |scenario, _| run(scenario, wait_timeout));
}

/// The parent directory of the watched file is created and removed at once. The watch reports a
/// change, because a reader may have read the file in between.
#[test]
fn transient_directory_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().join("parent");
    let files = FileWatcher::new().poll_interval(NEVER);
    Runtime::new().unwrap().block_on(async {
        let mut watch = files.watch(&parent.join("file")).await.unwrap();
        fs::create_dir(&parent).unwrap();
        fs::write(parent.join("file"), "transient").unwrap();
        fs::remove_dir_all(&parent).unwrap();
        timeout(Duration::from_secs(20), watch.changed()).await.unwrap().unwrap();
    });
}

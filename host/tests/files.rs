//! Files that change in all the ways that files do, seen by the file layer alone.
#![cfg(all(feature = "file-reloader", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and says so"
)]

mod scenarios;

use reloader_host::file::{FileWatcher, PathWatch};
use scenarios::{SCENARIOS, Scenario, Then, World};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, sync::watch, time::timeout};

/// Only reached on failure.
const DEADLINE: Duration = Duration::from_secs(20);
/// Longer than any test: events alone must do.
const NEVER: Duration = Duration::from_secs(3600);

/// Keeps the last content of a path, as somebody does who reads after each change and not else.
struct Consumer {
    latest: watch::Receiver<Option<Vec<u8>>>,
}

impl Consumer {
    async fn start(files: &FileWatcher, path: &Path) -> Self {
        let watch = files.watch(path).await.unwrap();
        let first = read(files, path, &watch).await;
        let (sender, latest) = watch::channel(first);
        let (files, path) = (files.clone(), PathBuf::from(path));
        tokio::spawn(keep(files, path, watch, sender));
        Self { latest }
    }

    async fn comes_to_know(&mut self, content: Option<&[u8]>) -> Result<(), String> {
        let known = self.latest.wait_for(|latest| latest.as_deref() == content);
        match timeout(DEADLINE, known).await.map(|known| known.is_ok()) {
            Ok(true) => return Ok(()),
            Ok(false) => return Err("the watch has ended".into()),
            Err(_) => {}
        }
        let latest = self.latest.borrow();
        Err(format!("{:?} instead of {:?}", text(latest.as_deref()), text(content)))
    }
}

async fn keep(
    files: FileWatcher,
    path: PathBuf,
    mut watch: PathWatch,
    latest: watch::Sender<Option<Vec<u8>>>,
) {
    loop {
        // It ends with the runtime.
        if watch.changed().await.is_err() {
            return;
        }
        latest.send_replace(read(&files, &path, &watch).await);
    }
}

async fn read(files: &FileWatcher, path: &Path, watch: &PathWatch) -> Option<Vec<u8>> {
    files.read(path, 1 << 20, &watch.last_writer()).await.ok()
}

fn text(content: Option<&[u8]>) -> Option<String> {
    content.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn run(scenario: &Scenario) -> Result<(), String> {
    let mut world = World::new();
    (scenario.set_up)(&mut world);
    let probe = if scenario.told { NEVER } else { Duration::from_millis(20) };
    let files = FileWatcher::new().probe_every(probe);
    let runtime = Runtime::new().unwrap();
    let mut consumer = runtime.block_on(Consumer::start(&files, world.path()));
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
                    let result = catch_unwind(AssertUnwindSafe(|| run(scenario)));
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

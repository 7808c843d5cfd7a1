//! Files that change in all the ways that files do, with each strategy: natively, and through the
//! plugin `file`.
#![cfg(all(feature = "file-reloader", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and says so"
)]

#[path = "../crates/fs-watch/tests/scenarios/mod.rs"]
mod scenarios;

use async_trait::async_trait;
use reloader_host::{
    AsyncFileLoad, FileReloader, ReloaderConfig, ReloaderReceiver, ReloaderService, model::Strategy,
};
use scenarios::{Scenario, Then, World, run_all};
use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;

/// Reached only when a change does not arrive.
const PATIENCE: Duration = Duration::from_secs(20);
const STRATEGIES: [Strategy; 3] = [Strategy::Polling, Strategy::Realtime, Strategy::Hybrid];

/// How often a source is polled: with the other strategies, events alone must do.
fn interval(strategy: Strategy) -> Duration {
    match strategy {
        Strategy::Polling => Duration::from_millis(20),
        Strategy::Realtime | Strategy::Hybrid => Duration::from_secs(3600),
    }
}

/// What follows the path of a world.
trait Follower {
    /// Comes to know what there is now.
    fn comes_to_know(&mut self, then: Then) -> impl Future<Output = ()>;
    /// What it knows.
    fn knows(&self) -> String;
}

/// Runs every scenario with every strategy.
fn every_change_arrives<F: Follower, S: Future<Output = F>>(
    start: impl Fn(PathBuf, Strategy) -> S + Sync,
) {
    run_all(&STRATEGIES, |scenario, strategy| run(scenario, |path| start(path, strategy)));
}

fn run<F: Follower, S: Future<Output = F>>(
    scenario: &Scenario,
    start: impl Fn(PathBuf) -> S,
) -> Result<(), String> {
    let mut world = World::new();
    (scenario.set_up)(&mut world);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut follower = runtime.block_on(start(world.path().to_owned()));
    if let Some(content) = world.content() {
        let content = String::from_utf8(content).unwrap();
        runtime.block_on(follower.comes_to_know(Then::Is(content.leak())));
    }
    for (number, step) in scenario.steps.iter().enumerate() {
        (step.act)(&mut world);
        let known = timeout_in(&runtime, follower.comes_to_know(step.then));
        if !known {
            let knows = follower.knows();
            return Err(format!("step {number}: {:?} expected, {knows} known", step.then));
        }
    }
    runtime.shutdown_background();
    Ok(())
}

fn timeout_in(runtime: &tokio::runtime::Runtime, future: impl Future<Output = ()>) -> bool {
    runtime.block_on(async { timeout(PATIENCE, future).await.is_ok() })
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Text(String);

impl TryFrom<&PathBuf> for Text {
    type Error = io::Error;

    fn try_from(path: &PathBuf) -> Result<Self, io::Error> {
        std::fs::read_to_string(path).map(Text)
    }
}

#[async_trait]
impl AsyncFileLoad for Text {
    type Error = io::Error;

    async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> Result<Self, io::Error> {
        std::fs::read_to_string(path).map(Text)
    }
}

impl Follower for ReloaderReceiver<Text, String> {
    async fn comes_to_know(&mut self, then: Then) {
        match then {
            Then::Is(content) => {
                while self.get().as_ref().map(|text| text.0.as_str()) != Some(content) {
                    self.changed().await.unwrap();
                }
            }
            // The last value stays: the file may come back.
            Then::Gone => assert!(!self.status().removed),
        }
    }

    fn knows(&self) -> String {
        format!("{:?}", self.get())
    }
}

#[test]
fn natively() {
    every_change_arrives(|path, strategy| async move {
        let settings =
            ReloaderConfig { strategy, ..Default::default() }.interval(interval(strategy));
        let (service, receiver) =
            ReloaderService::<FileReloader<Text>, Text, String>::with_settings(
                &path.display().to_string(),
                settings,
            )
            .await
            .unwrap();
        tokio::spawn(async move { service.start_with_realtime().await });
        receiver
    });
}

#[cfg(feature = "bundled")]
mod through_the_plugin {
    use super::*;
    use reloader_host::{Plugin, PluginHost, Source, Subscription};
    use std::sync::OnceLock;

    struct Followed {
        path: PathBuf,
        _source: Source,
        reader: Subscription,
    }

    impl Follower for Followed {
        async fn comes_to_know(&mut self, then: Then) {
            let is_there = std::fs::symlink_metadata(&self.path).is_ok();
            if then == Then::Gone && is_there {
                // Something that cannot be read: a failure, which removes nothing.
                return assert!(self.reader.state().value.is_some());
            }
            loop {
                let state = self.reader.state();
                let content = state.value.as_ref().map(|value| &value.content[..]);
                match then {
                    Then::Is(expected) if content == Some(expected.as_bytes()) => return,
                    Then::Gone if content.is_none() => return,
                    Then::Is(_) | Then::Gone => self.reader.changed().await.unwrap(),
                }
            }
        }

        fn knows(&self) -> String {
            format!("{:?}", self.reader.clone().get().map(|value| value.content))
        }
    }

    #[test]
    fn through_the_plugin() {
        static PLUGIN: OnceLock<Plugin> = OnceLock::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let plugin =
            runtime.block_on(async { PluginHost::new().unwrap().load("file").await.unwrap() });
        let plugin = PLUGIN.get_or_init(|| plugin);
        every_change_arrives(|path, strategy| async move {
            let source = plugin.source("file").set("path", path.display().to_string());
            let source = source.strategy(strategy).interval(interval(strategy)).start().unwrap();
            Followed { path, reader: source.subscribe(), _source: source }
        });
    }
}

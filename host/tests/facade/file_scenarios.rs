//! File change scenarios with each strategy: with `FileReloader`, and with the plugin `file`.
#![allow(clippy::print_stdout, reason = "skipped scenarios are printed")]

#[path = "../../crates/fs-watch/tests/scenarios/mod.rs"]
mod scenarios;

use async_trait::async_trait;
use reloader_host::{
    AsyncFileLoad, FileReloader, ReloaderConfig, ReloaderReceiver, ReloaderService, types::Strategy,
};
use scenarios::{Scenario, Then, World, run_all};
use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;

/// Timeout of each step; reached only on failure.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
const STRATEGIES: [Strategy; 3] = [Strategy::Polling, Strategy::Realtime, Strategy::Hybrid];

/// Returns the poll interval. With realtime and hybrid the interval is longer than the test, so only watch events
/// report changes.
fn interval(strategy: Strategy) -> Duration {
    match strategy {
        Strategy::Polling => Duration::from_millis(20),
        Strategy::Realtime | Strategy::Hybrid => Duration::from_secs(3600),
    }
}

/// Reader of the path that a scenario changes.
trait PathReader {
    /// Waits until the path has the expected content.
    fn wait_for(&mut self, then: Then) -> impl Future<Output = ()>;
    /// Returns the current content, for the message of a failed assertion.
    fn shown(&self) -> String;
}

/// Runs every scenario with every strategy.
fn run_scenarios<R: PathReader, S: Future<Output = R>>(
    start: impl Fn(PathBuf, Strategy) -> S + Sync,
) {
    run_all(&STRATEGIES, |scenario, strategy| run(scenario, |path| start(path, strategy)));
}

fn run<R: PathReader, S: Future<Output = R>>(
    scenario: &Scenario,
    start: impl Fn(PathBuf) -> S,
) -> Result<(), String> {
    let mut world = World::new();
    (scenario.set_up)(&mut world);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut reader = runtime.block_on(start(world.path().to_owned()));
    if let Some(content) = world.content() {
        let content = String::from_utf8(content).unwrap();
        runtime.block_on(reader.wait_for(Then::Is(content.leak())));
    }
    for (number, step) in scenario.steps.iter().enumerate() {
        (step.act)(&mut world);
        let is_reached = timeout_in(&runtime, reader.wait_for(step.then));
        if !is_reached {
            let shown = reader.shown();
            return Err(format!("step {number}: expected {:?}, got {shown}", step.then));
        }
    }
    runtime.shutdown_background();
    Ok(())
}

fn timeout_in(runtime: &tokio::runtime::Runtime, future: impl Future<Output = ()>) -> bool {
    runtime.block_on(async { timeout(STEP_TIMEOUT, future).await.is_ok() })
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

impl PathReader for ReloaderReceiver<Text, String> {
    async fn wait_for(&mut self, then: Then) {
        match then {
            Then::Is(content) => {
                while self.get().as_ref().map(|text| text.0.as_str()) != Some(content) {
                    self.changed().await.unwrap();
                }
            }
            // The reloader keeps the last value, since the file may be created again. It reports no removal.
            Then::Gone => assert!(!self.status().removed),
        }
    }

    fn shown(&self) -> String {
        format!("{:?}", self.get())
    }
}

#[test]
fn native_reloader_sees_every_change() {
    run_scenarios(|path, strategy| async move {
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
mod plugin {
    use super::*;
    use reloader_host::{Plugin, PluginHost, Source, Subscription};
    use std::sync::OnceLock;

    struct PluginSource {
        path: PathBuf,
        _source: Source,
        subscription: Subscription,
    }

    impl PathReader for PluginSource {
        async fn wait_for(&mut self, then: Then) {
            let exists = std::fs::symlink_metadata(&self.path).is_ok();
            if then == Then::Gone && exists {
                // An unreadable file is a failure, not a removal.
                return assert!(self.subscription.state().value.is_some());
            }
            loop {
                let state = self.subscription.state();
                let content = state.value.as_ref().map(|value| &value.content[..]);
                match then {
                    Then::Is(expected) if content == Some(expected.as_bytes()) => return,
                    Then::Gone if content.is_none() => return,
                    Then::Is(_) | Then::Gone => self.subscription.changed().await.unwrap(),
                }
            }
        }

        fn shown(&self) -> String {
            format!("{:?}", self.subscription.clone().get().map(|value| value.content))
        }
    }

    #[test]
    fn plugin_sees_every_change() {
        static PLUGIN: OnceLock<Plugin> = OnceLock::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let plugin =
            runtime.block_on(async { PluginHost::new().unwrap().load("file").await.unwrap() });
        let plugin = PLUGIN.get_or_init(|| plugin);
        run_scenarios(|path, strategy| async move {
            let source = plugin.source("file").set("path", path.display().to_string());
            let source = source.strategy(strategy).interval(interval(strategy)).start().unwrap();
            PluginSource { path, subscription: source.subscribe(), _source: source }
        });
    }
}

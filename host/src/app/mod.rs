//! A whole machine's configuration, kept current: many sources, their sinks, and what survives a restart.
//!
//! This is the only place where the parts are wired together. [`Config::read`] says what is wanted,
//! [`prepare`] makes sure that it can be had, and an [`App`] is it, at work.

mod answer;
mod config;
mod control;
mod memory;
mod news;
mod places;
mod prepare;
mod sinks;
mod unit;

pub use config::{
    Config, ConfigError, GroupConfig, LogFormat, LogLevel, LogTable, SourceConfig, StateTable,
    schema,
};
pub use control::{
    AskError, HistoryEntry, Request, Response, SOCKET, SinkReport, SourceStatus, ask,
};
pub use places::state_directory;
pub use prepare::{Prepared, SourceCheck, check_online, prepare};

use crate::{
    model::SourceName,
    plugin::Runtime,
    process::{Exit, Signal, Supervisor},
};
use control::{Answer, Control};
use memory::Memory;
use news::News;
use sinks::{Deliveries, Inputs, Sinks};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{RwLock, mpsc, watch};
use tracing::{error, info, warn};
use unit::Unit;

/// A configuration at work.
pub struct App {
    runtime: Runtime,
    config: Config,
    shared: Arc<Shared>,
    groups: BTreeMap<String, (GroupConfig, Sinks)>,
    news: News,
    deliveries: Deliveries,
    supervisor: Option<Supervisor>,
    control: Option<Control>,
}

/// What others may look at while it works.
struct Shared {
    units: RwLock<BTreeMap<SourceName, Unit>>,
    memory: Memory,
}

/// What a running host is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Read the configuration file again.
    Reload,
    /// End, in order.
    Stop,
    /// Pass this signal on to the program that uses the values.
    Forward(Signal),
}

/// Sees how the sources are. Cheap to clone.
#[derive(Clone)]
pub struct Watcher(Arc<Shared>);

impl Watcher {
    /// How all sources are, by their names. Those that are being changed at this moment may be left out.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceStatus> {
        match self.0.units.try_read() {
            Ok(units) => units.values().map(|unit| unit.status(&self.0.memory)).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// How an app has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to.
    Stopped,
    /// The program that uses the values has ended, with this status.
    Command(u8),
}

impl App {
    /// Starts all sources and sinks. What is known from before is delivered at once.
    ///
    /// # Errors
    ///
    /// When the state cannot be used, or settings are wrong that only show at the start.
    pub async fn start(
        runtime: Runtime,
        config: Config,
        prepared: Vec<Prepared>,
    ) -> anyhow::Result<Self> {
        let directory = state_directory(&config);
        let (memory, control_at) = if config.state.enabled {
            let directory = directory?;
            (Memory::open(&directory, &config.state).await?, Some(directory.join(SOCKET)))
        } else {
            (Memory::none(), None)
        };
        let shared = Arc::new(Shared { units: RwLock::default(), memory });
        let control = match control_at {
            Some(path) => {
                match Control::listen(&path, Arc::clone(&shared) as Arc<dyn Answer>).await {
                    Ok(control) => Some(control),
                    Err(error) => {
                        let path = path.display();
                        warn!(
                            "no control socket at `{path}`, so no `host history` and the like: {error}"
                        );
                        None
                    }
                }
            }
            None => None,
        };
        let news = News::new(&config.path);
        let (deliveries, _) = watch::channel(0);
        let mut app = Self {
            runtime,
            config,
            shared,
            groups: BTreeMap::new(),
            news,
            deliveries,
            supervisor: None,
            control,
        };
        app.set_sources(prepared).await?;
        Ok(app)
    }

    /// Sees how the sources are.
    #[must_use]
    pub fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.shared))
    }

    /// Keeps everything current until it is told to stop, or the program that uses the values ends.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Outcome {
        let mut deliveries = self.deliveries.subscribe();
        let outcome = loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Reload) => self.reload().await,
                    Some(Order::Forward(signal)) => {
                        if let Some(supervisor) = &self.supervisor {
                            supervisor.forward(signal);
                        }
                    }
                    Some(Order::Stop) | None => break Outcome::Stopped,
                },
                news = self.news.next() => match news {
                    news::Changed::Config => {
                        info!("the configuration file has changed");
                        self.reload().await;
                    }
                    news::Changed::Plugin(path) => self.plugin_changed(&path).await,
                    news::Changed::TryAgain => self.try_again().await,
                },
                _ = deliveries.changed() => self.delivered().await,
                exit = ended(&mut self.supervisor) => break Outcome::Command(exit.code),
            }
        };
        let exit = self.stop().await;
        exit.map_or(outcome, |exit| Outcome::Command(exit.code))
    }

    /// Reads the configuration again. If it is wrong, everything goes on as it was.
    async fn reload(&mut self) {
        let path = self.config.path.clone();
        let config = match tokio::task::spawn_blocking(move || Config::read(&path)).await {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => return refuse(&error),
            Err(error) => return error!("reading the configuration failed: {error}"),
        };
        let prepared = match prepare(&self.runtime, &config).await {
            Ok(prepared) => prepared,
            Err(error) => return refuse(&error),
        };
        if config.state != self.config.state {
            warn!("`[state]` has changed; that takes effect at the next start");
        }
        if config.command != self.config.command {
            warn!("`[command]` has changed; that takes effect at the next start");
        }
        self.config = config;
        match self.set_sources(prepared).await {
            Ok(()) => info!("the new configuration is in use"),
            Err(error) => error!("the new configuration is in use in part: {error:#}"),
        }
    }

    /// Makes the sources be these, and touches only what is not the same.
    async fn set_sources(&mut self, prepared: Vec<Prepared>) -> anyhow::Result<()> {
        let paths = prepared.iter().map(|source| source.config.plugin.clone());
        self.news.watch_plugins(paths);
        let mut units = self.shared.units.write().await;
        let memory = &self.shared.memory;
        let groups = self.config.groups.iter().map(|group| (group_name(&group.name), true));
        let sources =
            prepared.iter().map(|source| (source.config.name.clone(), source.config.store));
        memory.configured(sources.chain(groups));
        let wanted: Vec<_> = prepared.iter().map(|source| source.config.name.clone()).collect();
        let gone: Vec<_> = units.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        let mut changed = gone.clone();
        for name in gone {
            if let Some(unit) = units.remove(&name) {
                info!(source = %name, "is no longer configured");
                unit.stop().await;
            }
        }
        for new in prepared {
            let name = new.config.name.clone();
            match units.get_mut(&name) {
                Some(unit) => unit.update(new, memory, &self.deliveries).await,
                None => {
                    let unit = Unit::start(new, memory, &self.deliveries).await?;
                    units.insert(name.clone(), unit);
                    changed.push(name);
                }
            }
        }
        let wanted = &self.config.groups;
        self.groups.retain(|name, (group, _)| {
            let is_wanted = wanted.iter().any(|wanted| wanted.name == *name);
            is_wanted && !group.sources.iter().any(|source| changed.contains(source))
        });
        for wanted in wanted {
            let readers = wanted.sources.iter().filter_map(|name| {
                units.get(name).map(|unit| (name.clone(), unit.source.subscribe()))
            });
            let name = group_name(&wanted.name);
            let inputs = Inputs {
                of: name.as_str(),
                readers: readers.collect(),
                wait: wanted.wait.as_ref(),
            };
            let entry = self.groups.entry(wanted.name.clone());
            let (group, sinks) = entry.or_insert_with(|| (wanted.clone(), Sinks::default()));
            if group.sources != wanted.sources || group.wait != wanted.wait {
                *sinks = Sinks::default();
            }
            sinks.set(&inputs, &wanted.sinks, memory, &self.deliveries).await;
            *group = wanted.clone();
        }
        Ok(())
    }

    /// A plugin's file is another one.
    async fn plugin_changed(&mut self, path: &str) {
        info!(plugin = path, "the plugin's file has changed");
        self.retry(|unit| unit.prepared.config.plugin == path).await;
    }

    /// Some sources do not run with what they should.
    async fn try_again(&mut self) {
        self.retry(|unit| unit.reverted.is_some()).await;
    }

    /// Prepares some sources anew, each by itself, and lets them be replaced.
    async fn retry(&mut self, which: impl Fn(&Unit) -> bool) {
        let plugins = prepare::Plugins::new(&self.runtime);
        let mut units = self.shared.units.write().await;
        let memory = &self.shared.memory;
        for (name, unit) in units.iter_mut().filter(|(_, unit)| which(unit)) {
            let Some(config) = self.config.sources.iter().find(|source| source.name == *name)
            else {
                continue;
            };
            match plugins.prepare(config).await {
                Ok(new) => unit.update(new, memory, &self.deliveries).await,
                Err(wrong) => {
                    let why: Vec<_> = wrong.into_iter().map(|wrong| wrong.message).collect();
                    let why = why.join("; ");
                    warn!(source = %name, "goes on as it was: {why}");
                    unit.reverted = Some(why);
                }
            }
        }
    }

    /// Something has been delivered: the program that uses it is started, or told.
    async fn delivered(&mut self) {
        let Some(command) = &self.config.command else { return };
        if let Some(supervisor) = &self.supervisor {
            supervisor.changed();
            return;
        }
        let units = self.shared.units.read().await;
        let is_there = |unit: &Unit| !unit.prepared.config.required || unit.has_delivered();
        let groups = self.groups.values().all(|(group, sinks)| {
            let required =
                |name| units.get(name).is_none_or(|unit: &Unit| unit.prepared.config.required);
            !group.sources.iter().all(required) || sinks.have_delivered()
        });
        if units.values().all(is_there) && groups {
            info!("all values are there: the program that uses them is started");
            self.supervisor = Some(Supervisor::start(command.clone()));
        }
    }

    /// Ends all, in order; how the program that uses the values has ended, if there was one.
    async fn stop(mut self) -> Option<Exit> {
        info!("stopping");
        self.control = None;
        let exit = match self.supervisor {
            Some(supervisor) => Some(supervisor.stop().await),
            None => None,
        };
        let units = std::mem::take(&mut *self.shared.units.write().await);
        let mut all = tokio::task::JoinSet::new();
        for unit in units.into_values() {
            all.spawn(unit.stop());
        }
        all.join_all().await;
        for (_, sinks) in self.groups.into_values() {
            sinks.stop().await;
        }
        self.shared.memory.close(STATE_STOP).await;
        exit
    }
}

/// The name under which the sinks of a group are remembered: none that a source can have.
fn group_name(group: &str) -> SourceName {
    SourceName::new(format!("group/{group}"))
}

/// What is still to be written to the state has so long at the end.
const STATE_STOP: Duration = Duration::from_secs(5);

fn refuse(error: &ConfigError) {
    error!("the new configuration cannot be used, and everything goes on as it was:\n{error}");
}

async fn ended(supervisor: &mut Option<Supervisor>) -> Exit {
    match supervisor {
        Some(supervisor) => supervisor.ended().await,
        None => std::future::pending().await,
    }
}

//! A whole machine's configuration, kept current: many sources, their sinks, and what survives a restart.
//!
//! This is the only place where the parts are wired together. [`Config::read`] says what is wanted,
//! [`prepare`] makes sure that it can be had, and an [`App`] is it, at work.

mod answer;
mod config;
mod control;
mod machine;
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
    AskError, HistoryEntry, RefusedValue, Request, Response, SOCKET, SinkReport, SourceStatus, ask,
};
pub use places::state_directory;
pub use prepare::{Prepared, SourceCheck, check_online, prepare};

use crate::{
    plugin::Runtime,
    process::{Exit, Signal, Supervisor},
};
use control::{Answer, Control};
use machine::Machine;
use memory::Memory;
use news::{Changed, News};
use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// A configuration at work.
pub struct App {
    machine: Arc<Machine>,
    news: News,
    supervisor: Option<Supervisor>,
    control: Option<Control>,
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
pub struct Watcher(Arc<Machine>);

impl Watcher {
    /// How all sources are, by their names.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.0.status()
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
        let news = News::new(&config.path);
        let machine = Machine::new(runtime, config, memory);
        let control = match control_at {
            Some(path) => {
                match Control::listen(&path, Arc::clone(&machine) as Arc<dyn Answer>).await {
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
        machine.set_sources(prepared).await?;
        let mut app = Self { machine, news, supervisor: None, control };
        app.watch_plugins();
        Ok(app)
    }

    fn watch_plugins(&mut self) {
        let config = self.machine.config();
        self.news.watch_plugins(config.sources.iter().map(|source| source.plugin.clone()));
    }

    /// Sees how the sources are.
    #[must_use]
    pub fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.machine))
    }

    /// Keeps everything current until it is told to stop, or the program that uses the values ends.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Outcome {
        let mut deliveries = self.machine.deliveries.subscribe();
        let mut changes = Changes::default();
        let outcome = loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Reload) => changes.add(Changed::Config),
                    Some(Order::Forward(signal)) => {
                        if let Some(supervisor) = &self.supervisor {
                            supervisor.forward(signal);
                        }
                    }
                    Some(Order::Stop) | None => break Outcome::Stopped,
                },
                changed = self.news.next() => {
                    if changed == Changed::Config {
                        info!("the configuration file has changed");
                    }
                    changes.add(changed);
                }
                () = changes.made(&self.machine) => self.watch_plugins(),
                _ = deliveries.changed() => self.delivered(),
                exit = ended(&mut self.supervisor) => break Outcome::Command(exit.code),
            }
        };
        drop(changes);
        let exit = self.stop().await;
        exit.map_or(outcome, |exit| Outcome::Command(exit.code))
    }

    /// Something has been delivered: the program that uses it is started, or told.
    fn delivered(&mut self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.changed();
            return;
        }
        let config = self.machine.config();
        let Some(command) = &config.command else { return };
        if self.machine.is_all_there() {
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
        self.machine.stop().await;
        exit
    }
}

/// Changes, which are made one after the other, beside everything else.
#[derive(Default)]
struct Changes {
    waiting: VecDeque<Changed>,
    making: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Changes {
    fn add(&mut self, changed: Changed) {
        // One that waits sees what is there when it is its turn.
        if !self.waiting.contains(&changed) {
            self.waiting.push_back(changed);
        }
    }

    /// Goes on with the changes, until one has been made. Without any, this waits.
    async fn made(&mut self, machine: &Arc<Machine>) {
        if self.making.is_none() {
            let next = self.waiting.pop_front();
            self.making = next.map(|next| Box::pin(Arc::clone(machine).change(next)) as _);
        }
        match &mut self.making {
            Some(making) => making.await,
            None => pending().await,
        }
        self.making = None;
    }
}

async fn ended(supervisor: &mut Option<Supervisor>) -> Exit {
    match supervisor {
        Some(supervisor) => supervisor.ended().await,
        None => std::future::pending().await,
    }
}

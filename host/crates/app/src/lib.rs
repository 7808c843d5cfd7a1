//! Runs one configuration: parsing, reconciliation, and the lifecycle of sources, sinks and state.
//!
//! A crate of its own, because it is the only place where the other crates are wired together.
//! [`Config::read`] parses what an operator wrote, [`prepare`] loads what it names, and an [`App`] runs it.
//!
//! ```
//! use reloader_app::Config;
//! use std::path::Path;
//!
//! let text = "[[source]]\nname = 'app'\nplugin = 'file'\nconfig.path = 'app.toml'\n";
//! let config = Config::parse(Path::new("reloader.toml"), text)?;
//! assert_eq!(config.sources[0].name.as_str(), "app");
//!
//! let error = Config::parse(Path::new("reloader.toml"), "[[source]]\nplugin = 'file'\n").unwrap_err();
//! assert!(error.to_string().contains("missing field `name`"));
//! # Ok::<(), reloader_app::ConfigError>(())
//! ```
//!
//! # Features
//!
//! - `clap`: settings that are flags of the program, too, implement `clap::ValueEnum`. Off by default.

mod change_histogram;
mod commands;
mod config;
mod handle;
mod managed_source;
mod paths;
mod persistence;
mod preflight;
mod prepare;
mod reconciler;
mod reload_triggers;
mod sink_set;

pub use commands::AnswerError;
pub use config::{
    Config, ConfigError, GroupConfig, ListenAddress, ListenTable, ListenTls, LogFormat, LogLevel,
    LogTable, Scope, SourceConfig, StateTable, Token, TokenDigest, schema,
};
pub use handle::{Handle, Phase, ReloadCheck, SourceCounts};
pub use paths::{control_socket, running_socket, state_directory};
pub use preflight::doubts;
pub use prepare::{Prepared, SourceCheck, check, check_online, prepare};
pub use sink_set::SinkCounts;

use persistence::Memory;
use reconciler::Machine;
use reload_triggers::{Changed, News, Stamp};
use reloader_delivery::process::{Exit, Signal, Supervisor};
use reloader_plugin_runtime::PluginHost;
use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, pending},
    mem,
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

/// Being told to stop again so soon is the same order.
const ONCE: Duration = Duration::from_secs(1);
/// What the program that uses the values waits for is said after so long, and then each time.
const REMIND_FIRST: Duration = Duration::from_secs(3);
const REMIND: Duration = Duration::from_secs(60);
/// So much of it is named.
const MISSING_SHOWN: usize = 5;

/// A configuration at work.
pub struct App {
    machine: Arc<Machine>,
    news: News,
    supervisor: Option<Supervisor>,
    /// So many changes the program that uses the values has been told of.
    told: u64,
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

/// How an app has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to.
    Stopped,
    /// The program that uses the values has ended, with this status.
    Command(u8),
    /// Nothing could come of it any more: the settings of a source that is needed can never work.
    Hopeless(String),
}

impl App {
    /// Starts all sources and sinks. What is known from before is delivered at once.
    ///
    /// # Errors
    ///
    /// When the state cannot be used, or settings are wrong that only show at the start.
    pub async fn start(
        runtime: PluginHost,
        config: Config,
        prepared: Vec<Prepared>,
    ) -> anyhow::Result<Self> {
        let directory = state_directory(&config);
        let memory = if config.state.enabled {
            Memory::open(&directory?, &config.state).await?
        } else {
            Memory::none()
        };
        let news = News::new(&config.path, config.stamp);
        let machine = Machine::new(runtime, config, memory);
        machine.set_sources(prepared).await?;
        let mut app = Self { machine, news, supervisor: None, told: 0 };
        app.watch_plugins();
        Ok(app)
    }

    /// Plugins are watched from what they were when they were loaded.
    fn watch_plugins(&mut self) {
        let config = self.machine.config();
        let mut files: BTreeMap<String, Option<Stamp>> = BTreeMap::new();
        for source in &config.sources {
            files.extend(source.plugins().map(|plugin| (plugin.to_owned(), None)));
        }
        for unit in self.machine.units() {
            for (plugin, stamp) in &unit.prepared().stamps {
                if let Some(known) = files.get_mut(plugin) {
                    *known = *stamp;
                }
            }
        }
        self.news.watch_plugins(files);
    }

    /// It, seen and told things from elsewhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.machine))
    }

    /// Keeps everything current until it is told to stop, or the program that uses the values ends.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Outcome {
        let mut deliveries = self.machine.deliveries.subscribe();
        let mut changes = Changes::default();
        let mut remind = Instant::now() + REMIND_FIRST;
        let mut telling: Option<Telling> = None;
        let outcome = loop {
            self.start_command();
            if let Some(why) = self.is_hopeless() {
                break Outcome::Hopeless(why);
            }
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
                _ = deliveries.changed() => {
                    let now = deliveries.borrow_and_update().changes;
                    if mem::replace(&mut self.told, now) != now && self.supervisor.is_some() {
                        telling.get_or_insert_with(|| Telling::new(self.machine.has_groups()));
                    }
                }
                () = Telling::due(telling.as_ref()), if telling.is_some() => {
                    if telling.as_mut().is_none_or(|it| it.is_time(self.machine.is_grouping())) {
                        telling = None;
                        if let Some(supervisor) = &self.supervisor {
                            supervisor.changed();
                        }
                    }
                }
                () = sleep_until(remind), if self.waits_with_command() => {
                    self.say_what_is_missing();
                    remind = Instant::now() + REMIND;
                }
                exit = ended(&mut self.supervisor) => break Outcome::Command(exit.code),
            }
        };
        drop(changes);
        tokio::select! {
            exit = self.stop() => exit.map_or(outcome, |exit| Outcome::Command(exit.code)),
            () = told_to_stop(&mut orders) => {
                warn!("told to stop once more: what is not done yet is left");
                outcome
            }
        }
    }

    /// The program that uses the values is started once they are there.
    fn start_command(&mut self) {
        let config = self.machine.config();
        if let (None, Some(command)) = (&self.supervisor, &config.command)
            && self.machine.missing(1).is_empty()
        {
            info!("all values are there: the program that uses them is started");
            self.told = self.machine.deliveries.borrow().changes;
            self.supervisor = Some(Supervisor::start(command.clone()));
        }
    }

    fn waits_with_command(&self) -> bool {
        self.supervisor.is_none() && self.machine.config().command.is_some()
    }

    fn say_what_is_missing(&self) {
        let missing = self.machine.missing(usize::MAX);
        let mut shown = missing[..missing.len().min(MISSING_SHOWN)].join(", ");
        if missing.len() > MISSING_SHOWN {
            shown += &format!(" and {} more", missing.len() - MISSING_SHOWN);
        }
        info!("the program that uses the values is not started yet, it waits for {shown}");
    }

    /// Why there is nothing to go on for, if so. A program that runs is not left alone.
    fn is_hopeless(&self) -> Option<String> {
        if self.supervisor.is_some() || self.machine.deliveries.borrow().ended == 0 {
            return None;
        }
        let starts_command = self.machine.config().command.is_some();
        self.machine.is_hopeless(starts_command)
    }

    /// Ends all, in order; how the program that uses the values has ended, if there was one.
    async fn stop(self) -> Option<Exit> {
        info!("stopping");
        self.machine.phase.send_replace(Phase::Stopping);
        let exit = match self.supervisor {
            Some(supervisor) => Some(supervisor.stop().await),
            None => None,
        };
        self.machine.stop().await;
        exit
    }
}

/// The program that uses the values is to be told of a change, once what is made of several sources has it,
/// too: it is told once, and finds all of it.
struct Telling {
    at: Instant,
    until: Instant,
    is_quiet: bool,
}

/// So often it is looked whether that is so.
const LOOK: Duration = Duration::from_millis(20);
/// It is not waited longer for that: sources that never rest are no reason to tell nothing.
const GROUPS_MAX: Duration = Duration::from_secs(10);

impl Telling {
    fn new(has_groups: bool) -> Self {
        let now = Instant::now();
        let at = if has_groups { now + LOOK } else { now };
        Self { at, until: now + GROUPS_MAX, is_quiet: !has_groups }
    }

    async fn due(telling: Option<&Self>) {
        if let Some(telling) = telling {
            sleep_until(telling.at).await;
        }
    }

    /// What has just come to rest has a moment to say so.
    fn is_time(&mut self, is_grouping: bool) -> bool {
        let now = Instant::now();
        if now >= self.until || !is_grouping && self.is_quiet {
            return true;
        }
        (self.at, self.is_quiet) = (now + LOOK, !is_grouping);
        false
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
        if changed == Changed::Config {
            // It goes through everything; what is being tried for an older one is of no interest.
            *self = Self::default();
        }
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

/// Once more, that is. Some tell each process of a group, and so the same one twice.
async fn told_to_stop(orders: &mut mpsc::Receiver<Order>) {
    let again = Instant::now() + ONCE;
    loop {
        match orders.recv().await {
            Some(Order::Stop) if Instant::now() >= again => return,
            Some(_) => {}
            None => pending().await,
        }
    }
}

async fn ended(supervisor: &mut Option<Supervisor>) -> Exit {
    match supervisor {
        Some(supervisor) => supervisor.ended().await,
        None => std::future::pending().await,
    }
}

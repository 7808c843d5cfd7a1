//! What runs of a configuration, and how it becomes what another one wants. Whoever looks at it, or asks
//! it for something, never waits for a change that is being made.

use super::{
    Phase, ReloadCheck, SourceCounts,
    config::{Config, ConfigError, GroupConfig, SourceConfig},
};
use crate::{
    managed_source::Unit,
    persistence::Memory,
    prepare::{Plugins, Prepared, prepare},
    reload_triggers::Changed,
    sink_set::{Delivered, Deliveries, Inputs, SinkCounts, Sinks},
};
use reloader_api_types::GroupStatus;
use reloader_engine::types::SourceName;
use reloader_plugin_runtime::{ConfigureError, PluginHost};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinSet, spawn_blocking},
};
use tracing::{error, info, warn};

pub(crate) struct Machine {
    runtime: PluginHost,
    /// The configuration in use.
    config: watch::Sender<Arc<Config>>,
    /// The configuration at the start, for settings that take effect at the next start.
    begun: Arc<Config>,
    /// What a new configuration has to pass before it is used.
    reload_checks: Mutex<Vec<Weak<dyn ReloadCheck>>>,
    /// Why the file is not in use as it is now.
    refused: Mutex<Option<String>>,
    units: Mutex<BTreeMap<SourceName, Arc<Unit>>>,
    groups: Mutex<BTreeMap<String, (GroupConfig, Arc<Sinks>)>>,
    pub(crate) memory: Memory,
    pub(crate) deliveries: Deliveries,
    /// Changes whenever sources come or go.
    pub(crate) roster: watch::Sender<u64>,
    pub(crate) phase: watch::Sender<Phase>,
    /// What had been counted when the end began.
    left: OnceLock<(Vec<SourceCounts>, Vec<SinkCounts>)>,
}

/// So many sources are tried at a time when they are to be other ones.
const AT_ONCE: usize = 16;
/// What is still to be written to the state has so long at the end.
const STATE_STOP: Duration = Duration::from_secs(5);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// Nothing runs yet.
    pub(crate) fn new(runtime: PluginHost, config: Config, memory: Memory) -> Arc<Self> {
        let (deliveries, _) = watch::channel(Delivered::default());
        let config = Arc::new(config);
        Arc::new(Self {
            runtime,
            config: watch::Sender::new(Arc::clone(&config)),
            begun: config,
            reload_checks: Mutex::default(),
            refused: Mutex::default(),
            units: Mutex::default(),
            groups: Mutex::default(),
            memory,
            deliveries,
            roster: watch::Sender::default(),
            phase: watch::Sender::default(),
            left: OnceLock::new(),
        })
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// The configuration in use, from now on.
    pub(crate) fn config_changes(&self) -> watch::Receiver<Arc<Config>> {
        self.config.subscribe()
    }

    /// Registers a check of new configurations, for as long as the check exists.
    pub(crate) fn add_reload_check(&self, check: Weak<dyn ReloadCheck>) {
        lock(&self.reload_checks).push(check);
    }

    fn reload_checks(&self) -> Vec<Arc<dyn ReloadCheck>> {
        let mut checks = lock(&self.reload_checks);
        checks.retain(|check| check.strong_count() > 0);
        checks.iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn units(&self) -> Vec<Arc<Unit>> {
        lock(&self.units).values().cloned().collect()
    }

    pub(crate) fn unit(&self, name: &SourceName) -> Option<Arc<Unit>> {
        lock(&self.units).get(name).cloned()
    }

    /// What of all that is required is not where it should be yet: so much of it at most.
    pub(crate) fn missing(&self, at_most: usize) -> Vec<String> {
        let (units, groups) = (lock(&self.units), lock(&self.groups));
        let is_required = |unit: &Unit| unit.prepared().config.required;
        let of_units = units.values().filter(|unit| is_required(unit));
        let of_units = of_units.flat_map(|unit| unit.missing());
        let of_groups = groups.values().filter(|(group, _)| {
            let mut sources = group.sources.iter().map(|name| units.get(name));
            sources.all(|unit| unit.is_none_or(|unit| is_required(unit)))
        });
        let of_groups = of_groups.flat_map(|(group, sinks)| {
            let sinks = sinks.missing().into_iter();
            sinks.map(|sink| format!("sink `{}/{sink}`", group.name))
        });
        of_units.chain(of_groups).take(at_most).collect()
    }

    /// How what is made of several sources is.
    pub(crate) fn group_status(&self) -> Vec<GroupStatus> {
        let units = self.units().into_iter();
        let secret = units.filter(|unit| !unit.prepared().config.readable);
        let secret: Vec<_> = secret.map(|unit| unit.source.name().clone()).collect();
        let groups = lock(&self.groups);
        let status = |(group, sinks): &(GroupConfig, Arc<Sinks>)| GroupStatus {
            name: group.name.clone(),
            sources: group.sources.iter().map(ToString::to_string).collect(),
            sinks: sinks.report(group.sources.iter().any(|name| secret.contains(name))),
        };
        groups.values().map(status).collect()
    }

    /// All sources in numbers.
    pub(crate) fn counts(&self) -> Vec<SourceCounts> {
        if let Some((sources, _)) = self.left.get() {
            return sources.clone();
        }
        self.units().iter().map(|unit| unit.counts(&self.memory)).collect()
    }

    /// Whether something is made of several sources.
    pub(crate) fn has_groups(&self) -> bool {
        !lock(&self.groups).is_empty()
    }

    /// Whether that is being done just now.
    pub(crate) fn is_grouping(&self) -> bool {
        lock(&self.groups).values().any(|(_, sinks)| sinks.are_at_work())
    }

    /// What all sinks have done.
    pub(crate) fn sink_counts(&self) -> Vec<SinkCounts> {
        if let Some((_, sinks)) = self.left.get() {
            return sinks.clone();
        }
        let mut counts: Vec<_> = self.units().iter().flat_map(|unit| unit.sink_counts()).collect();
        let groups = lock(&self.groups);
        counts.extend(groups.values().flat_map(|(group, sinks)| sinks.counts(&group.name)));
        counts
    }

    /// Why nothing can come of it any more, if so: what it waits for will not come.
    pub(crate) fn is_hopeless(&self, starts_command: bool) -> Option<String> {
        let units = self.units();
        let ended: Vec<_> = units.iter().filter_map(|unit| unit.end().zip(Some(unit))).collect();
        let missing = ended
            .iter()
            .find(|(_, unit)| unit.prepared().config.required && !unit.missing().is_empty());
        if starts_command && let Some((end, _)) = missing {
            return Some(format!("the program that uses the values cannot be started: {end}"));
        }
        let (last, _) = ended.last().filter(|_| ended.len() == units.len())?;
        Some(match units.len() {
            1 => last.clone(),
            _ => format!("there is no source left: {last}"),
        })
    }

    /// Makes it what is wanted now. One change is made at a time.
    pub(crate) async fn change(self: Arc<Self>, what: Changed) {
        match what {
            Changed::Config => self.reload().await,
            Changed::Plugin(path) => {
                info!(plugin = path, "the plugin's file has changed");
                self.retry(|config, _| config.plugins().any(|plugin| plugin == path)).await;
            }
            Changed::TryAgain => self.retry(|_, unit| unit.reverted().is_some()).await,
        }
    }

    /// Reads the configuration again. If it is wrong, everything goes on as it was.
    async fn reload(self: &Arc<Self>) {
        let _reloading = Reloading::begin(&self.phase);
        let before = self.config();
        let (present, checks) = (Arc::clone(&before), self.reload_checks());
        let read = spawn_blocking(move || {
            let mut config = Config::read(&present.path)?;
            config.serve_as(&present);
            let found: Vec<_> = checks.iter().flat_map(|check| check.check(&config)).collect();
            if found.is_empty() { Ok(config) } else { Err(config.wrong(found)) }
        });
        let config = match read.await {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => return self.refuse(&error),
            Err(error) => return error!("reading the configuration failed: {error}"),
        };
        let prepared = match prepare(&self.runtime, &config).await {
            Ok(prepared) => prepared,
            Err(error) => return self.refuse(&error),
        };
        let begun = &self.begun;
        if config.state != before.state && config.state != begun.state {
            warn!("`[state]` has changed; that takes effect at the next start");
        }
        if config.command != before.command && config.command != begun.command {
            warn!("`[command]` has changed; that takes effect at the next start");
        }
        let needs_restart = |to: &Config| config.listen.needs_restart(&to.listen);
        if needs_restart(&before) && needs_restart(begun) {
            warn!(
                "`[listen]` has changed; `address`, `connections` and whether TLS is used take effect at \
                 the next start"
            );
        }
        self.config.send_replace(Arc::new(config));
        *lock(&self.refused) = None;
        match self.set_sources(prepared).await {
            Ok(()) => self.say_in_use(),
            Err(error) => error!("the new configuration is in use in part: {error}"),
        }
    }

    fn refuse(&self, error: &ConfigError) {
        *lock(&self.refused) = Some(error.to_string());
        error!("the new configuration cannot be used, and everything goes on as it was:\n{error}");
    }

    /// Why the configuration file is not in use as it is now, if it is not.
    pub(crate) fn config_trouble(&self) -> Option<String> {
        lock(&self.refused).clone()
    }

    fn say_in_use(&self) {
        let units = self.units();
        let reverted = units.iter().filter(|unit| unit.reverted().is_some());
        let reverted: Vec<_> = reverted.map(|unit| format!("`{}`", unit.source.name())).collect();
        match reverted.as_slice() {
            [] => info!("the new configuration is in use"),
            [one] => warn!("the new configuration is in use, except for source {one}"),
            many => {
                warn!("the new configuration is in use, except for sources {}", many.join(", "));
            }
        }
    }

    /// Makes the sources be these, and touches only what is not the same.
    ///
    /// # Errors
    ///
    /// The first source that cannot be started; the others are.
    pub(crate) async fn set_sources(
        self: &Arc<Self>,
        prepared: Vec<Prepared>,
    ) -> Result<(), ConfigureError> {
        let config = self.config();
        let groups = config.groups.iter().map(|group| (group_name(&group.name), true));
        let sources =
            prepared.iter().map(|source| (source.config.name.clone(), source.config.store));
        self.memory.configured(sources.chain(groups));
        let is_gone = |name: &SourceName| prepared.iter().all(|source| source.config.name != *name);
        let gone: Vec<_> = lock(&self.units).extract_if(.., |name, _| is_gone(name)).collect();
        let mut changed = Vec::new();
        let mut stopping = JoinSet::new();
        for (name, unit) in gone {
            info!(source = %name, "is no longer configured");
            changed.push(name);
            stopping.spawn(unit.stop());
        }
        stopping.join_all().await;
        let adopted = self.adopt(prepared, &mut changed).await;
        self.roster.send_modify(|changes| *changes += 1);
        self.set_groups(&config.groups, &changed).await;
        adopted
    }

    /// Lets sources be these. Those that are there and work try it out, some at a time; the others are
    /// begun, and are named among those that have changed.
    async fn adopt(
        self: &Arc<Self>,
        prepared: Vec<Prepared>,
        changed: &mut Vec<SourceName>,
    ) -> Result<(), ConfigureError> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut updates = JoinSet::new();
        let mut result = Ok(());
        for new in prepared {
            let name = new.config.name.clone();
            let unit = self.unit(&name);
            if let Some(unit) = unit.as_ref().filter(|unit| !unit.has_ended()) {
                let (unit, machine, places) = (unit.clone(), self.clone(), places.clone());
                updates.spawn(async move {
                    let _place = places.acquire().await;
                    unit.update(new, &machine.memory, &machine.deliveries).await;
                });
                continue;
            }
            if let Some(unit) = unit {
                lock(&self.units).remove(&name);
                unit.stop().await;
            }
            match Unit::start(new, &self.memory, &self.deliveries).await {
                Ok(unit) => {
                    lock(&self.units).insert(name.clone(), Arc::new(unit));
                    changed.push(name);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        updates.join_all().await;
        result
    }

    /// Makes the groups be these. What they read has changed where a source is another one.
    async fn set_groups(&self, wanted: &[GroupConfig], changed: &[SourceName]) {
        let reads_the_same = |old: &GroupConfig| {
            let is_it = |new: &GroupConfig| {
                old.name == new.name && old.sources == new.sources && old.wait == new.wait
            };
            wanted.iter().any(is_it) && !old.sources.iter().any(|name| changed.contains(name))
        };
        let gone: Vec<_> = lock(&self.groups)
            .extract_if(.., |_, (group, _)| !reads_the_same(group))
            .map(|(_, (_, sinks))| sinks)
            .collect();
        stop_all(gone).await;
        for new in wanted {
            let sinks = {
                let mut groups = lock(&self.groups);
                let (config, sinks) = groups
                    .entry(new.name.clone())
                    .or_insert_with(|| (new.clone(), Arc::new(Sinks::default())));
                config.clone_from(new);
                Arc::clone(sinks)
            };
            let readers = new.sources.iter().filter_map(|name| {
                self.unit(name).map(|unit| (name.clone(), unit.source.subscribe()))
            });
            let name = group_name(&new.name);
            let inputs =
                Inputs { of: name.as_str(), readers: readers.collect(), wait: new.wait.as_ref() };
            sinks.set(&inputs, &new.sinks, &self.memory, &self.deliveries).await;
        }
    }

    /// Prepares some sources anew, each by itself, and lets them be replaced.
    async fn retry(self: &Arc<Self>, which: impl Fn(&SourceConfig, &Unit) -> bool) {
        let plugins = Plugins::new(&self.runtime);
        let config = self.config();
        let mut prepared = Vec::new();
        for source in &config.sources {
            let Some(unit) = self.unit(&source.name).filter(|unit| which(source, unit)) else {
                continue;
            };
            match plugins.prepare(source).await {
                Ok(new) => prepared.push(new),
                Err(wrong) => {
                    let why: Vec<_> = wrong.into_iter().map(|wrong| wrong.message).collect();
                    unit.goes_on_as_it_was(why.join("; "));
                }
            }
        }
        let mut changed = Vec::new();
        if let Err(error) = self.adopt(prepared, &mut changed).await {
            error!("not all of it can be used: {error}");
        }
        if !changed.is_empty() {
            self.roster.send_modify(|changes| *changes += 1);
            self.set_groups(&config.groups, &changed).await;
        }
    }

    /// Ends all, in order.
    pub(crate) async fn stop(&self) {
        let _ = self.left.set((self.counts(), self.sink_counts()));
        let units = std::mem::take(&mut *lock(&self.units));
        units.into_values().map(Unit::stop).collect::<JoinSet<()>>().join_all().await;
        let groups = std::mem::take(&mut *lock(&self.groups));
        stop_all(groups.into_values().map(|(_, sinks)| sinks)).await;
        self.memory.close(STATE_STOP).await;
    }
}

/// While the configuration is read again. It may be given up for a newer one.
struct Reloading<'a>(&'a watch::Sender<Phase>);

impl<'a> Reloading<'a> {
    fn begin(phase: &'a watch::Sender<Phase>) -> Self {
        turn(phase, Phase::Running, Phase::Reloading);
        Self(phase)
    }
}

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        turn(self.0, Phase::Reloading, Phase::Running);
    }
}

fn turn(phase: &watch::Sender<Phase>, from: Phase, to: Phase) {
    phase.send_if_modified(|phase| {
        let is_from = *phase == from;
        if is_from {
            *phase = to;
        }
        is_from
    });
}

async fn stop_all(all: impl IntoIterator<Item = Arc<Sinks>>) {
    let stopping = all.into_iter().map(|sinks| async move { sinks.stop().await });
    stopping.collect::<JoinSet<()>>().join_all().await;
}

/// The name under which the sinks of a group are remembered: none that a source can have.
fn group_name(group: &str) -> SourceName {
    SourceName::new(format!("group/{group}"))
}

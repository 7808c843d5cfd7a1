//! Reconciler: makes the running sources and sinks equal to the desired configuration.
//!
//! Reloads run one at a time. Status queries and commands do not wait for them.

use crate::{
    config::{Config, ConfigError, GroupConfig, SourceConfig},
    managed_source::ManagedSource,
    persistence::StatePersistence,
    prepare::{Plugins, Prepared, prepare},
    reload_check::ReloadCheck,
    reload_triggers::ReloadTrigger,
    sink_set::{DeliverySender, DeliveryTotals, SinkInputs, SinkSet},
    status::{Phase, SinkCounts, SourceCounts},
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

/// Maximum number of sources that are updated at the same time.
const MAX_CONCURRENT_UPDATES: usize = 16;
/// Time for the state store to finish its pending writes at shutdown.
const STATE_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Running sources and groups, and the configuration that they are reconciled with.
pub(crate) struct Reconciler {
    runtime: PluginHost,
    /// Configuration in effect.
    config: watch::Sender<Arc<Config>>,
    /// Configuration at the start, for the settings that take effect only at the next start.
    initial_config: Arc<Config>,
    /// Checks that a new configuration must pass.
    reload_checks: Mutex<Vec<Weak<dyn ReloadCheck>>>,
    /// Error of the last reload, if the configuration file was rejected.
    reload_error: Mutex<Option<String>>,
    sources: Mutex<BTreeMap<SourceName, Arc<ManagedSource>>>,
    groups: Mutex<BTreeMap<String, (GroupConfig, Arc<SinkSet>)>>,
    pub(crate) persistence: StatePersistence,
    pub(crate) deliveries: DeliverySender,
    /// Counter that changes when sources are added or removed.
    pub(crate) roster: watch::Sender<u64>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Counters at the start of the shutdown.
    final_counts: OnceLock<(Vec<SourceCounts>, Vec<SinkCounts>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reconciler {
    /// Creates a reconciler without running sources.
    pub(crate) fn new(
        runtime: PluginHost,
        config: Config,
        persistence: StatePersistence,
    ) -> Arc<Self> {
        let (deliveries, _) = watch::channel(DeliveryTotals::default());
        let config = Arc::new(config);
        Arc::new(Self {
            runtime,
            config: watch::Sender::new(Arc::clone(&config)),
            initial_config: config,
            reload_checks: Mutex::default(),
            reload_error: Mutex::default(),
            sources: Mutex::default(),
            groups: Mutex::default(),
            persistence,
            deliveries,
            roster: watch::Sender::default(),
            phase: watch::Sender::default(),
            final_counts: OnceLock::new(),
        })
    }

    /// Returns the configuration in effect.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Returns a receiver of the configuration in effect.
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

    /// Returns all sources, ordered by name.
    pub(crate) fn sources(&self) -> Vec<Arc<ManagedSource>> {
        lock(&self.sources).values().cloned().collect()
    }

    /// Returns the source with this name.
    pub(crate) fn source(&self, name: &SourceName) -> Option<Arc<ManagedSource>> {
        lock(&self.sources).get(name).cloned()
    }

    /// Returns up to `limit` required sources and sinks that are not ready, for display.
    pub(crate) fn missing(&self, limit: usize) -> Vec<String> {
        let (sources, groups) = (lock(&self.sources), lock(&self.groups));
        let is_required = |source: &ManagedSource| source.prepared().config.required;
        let of_sources = sources.values().filter(|source| is_required(source));
        let of_sources = of_sources.flat_map(|source| source.missing());
        let of_groups = groups.values().filter(|(group, _)| {
            let mut members = group.sources.iter().map(|name| sources.get(name));
            members.all(|source| source.is_none_or(|source| is_required(source)))
        });
        let of_groups = of_groups.flat_map(|(group, sinks)| {
            let sinks = sinks.missing().into_iter();
            sinks.map(|sink| format!("sink `{}/{sink}`", group.name))
        });
        of_sources.chain(of_groups).take(limit).collect()
    }

    /// Returns the status of all groups, ordered by name.
    pub(crate) fn group_status(&self) -> Vec<GroupStatus> {
        let sources = self.sources().into_iter();
        let secret = sources.filter(|source| !source.prepared().config.readable);
        let secret: Vec<_> = secret.map(|source| source.source.name().clone()).collect();
        let groups = lock(&self.groups);
        let status = |(group, sinks): &(GroupConfig, Arc<SinkSet>)| GroupStatus {
            name: group.name.clone(),
            sources: group.sources.iter().map(ToString::to_string).collect(),
            sinks: sinks.report(group.sources.iter().any(|name| secret.contains(name))),
        };
        groups.values().map(status).collect()
    }

    /// Returns the counters of all sources. During the shutdown, returns those at its start.
    pub(crate) fn counts(&self) -> Vec<SourceCounts> {
        if let Some((sources, _)) = self.final_counts.get() {
            return sources.clone();
        }
        self.sources().iter().map(|source| source.counts(&self.persistence)).collect()
    }

    /// Returns whether the configuration has groups.
    pub(crate) fn has_groups(&self) -> bool {
        !lock(&self.groups).is_empty()
    }

    /// Returns whether a sink of a group is settling or delivering.
    pub(crate) fn are_groups_delivering(&self) -> bool {
        lock(&self.groups).values().any(|(_, sinks)| sinks.are_delivering())
    }

    /// Returns the counters of all sinks. During the shutdown, returns those at its start.
    pub(crate) fn sink_counts(&self) -> Vec<SinkCounts> {
        if let Some((_, sinks)) = self.final_counts.get() {
            return sinks.clone();
        }
        let sources = self.sources();
        let mut counts: Vec<_> = sources.iter().flat_map(|source| source.sink_counts()).collect();
        let groups = lock(&self.groups);
        counts.extend(groups.values().flat_map(|(group, sinks)| sinks.counts(&group.name)));
        counts
    }

    /// Returns why the host cannot do its work any more: a source that the command requires ended without
    /// a value, or all sources ended.
    pub(crate) fn permanent_failure(&self, starts_command: bool) -> Option<String> {
        let sources = self.sources();
        let ended: Vec<_> =
            sources.iter().filter_map(|source| source.end_reason().zip(Some(source))).collect();
        let missing = ended
            .iter()
            .find(|(_, source)| source.prepared().config.required && !source.missing().is_empty());
        if starts_command && let Some((reason, _)) = missing {
            return Some(format!("the command cannot be started: {reason}"));
        }
        let (last, _) = ended.last().filter(|_| ended.len() == sources.len())?;
        Some(match sources.len() {
            1 => last.clone(),
            _ => format!("all sources have ended; the last one: {last}"),
        })
    }

    /// Handles a reload trigger.
    pub(crate) async fn handle_trigger(self: Arc<Self>, trigger: ReloadTrigger) {
        match trigger {
            ReloadTrigger::Config => self.reload().await,
            ReloadTrigger::Plugin(path) => {
                info!(plugin = %path, "plugin file changed");
                self.update_matching(|config, _| config.plugins().any(|plugin| plugin == path))
                    .await;
            }
            ReloadTrigger::Retry => {
                self.update_matching(|_, source| source.rollback_reason().is_some()).await;
            }
        }
    }

    /// Reads the configuration file and applies it. An invalid file changes nothing.
    async fn reload(self: &Arc<Self>) {
        let _guard = ReloadingGuard::new(&self.phase);
        let old = self.config();
        let (current, checks) = (Arc::clone(&old), self.reload_checks());
        let read = spawn_blocking(move || {
            let mut config = Config::read(&current.path)?;
            config.inherit_address_override(&current);
            let found: Vec<_> = checks.iter().flat_map(|check| check.check(&config)).collect();
            if found.is_empty() { Ok(config) } else { Err(config.error_with(found)) }
        });
        let config = match read.await {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => return self.reject_config(&error),
            Err(error) => return error!(%error, "configuration reload crashed"),
        };
        let prepared = match prepare(&self.runtime, &config).await {
            Ok(prepared) => prepared,
            Err(error) => return self.reject_config(&error),
        };
        self.warn_of_deferred_changes(&old, &config);
        self.config.send_replace(Arc::new(config));
        *lock(&self.reload_error) = None;
        match self.set_sources(prepared).await {
            Ok(()) => self.log_reloaded(),
            Err(error) => {
                error!(%error, "configuration reloaded, but a source could not be started")
            }
        }
    }

    /// Logs a warning for each changed table whose settings take effect only at the next start.
    fn warn_of_deferred_changes(&self, old: &Config, new: &Config) {
        let initial = &self.initial_config;
        if new.state != old.state && new.state != initial.state {
            warn!(table = "state", "configuration change takes effect at the next start");
        }
        if new.command != old.command && new.command != initial.command {
            warn!(table = "command", "configuration change takes effect at the next start");
        }
        let needs_restart = |from: &Config| new.listen.needs_restart(&from.listen);
        if needs_restart(old) && needs_restart(initial) {
            warn!(
                table = "listen",
                settings = "address, connections, use of TLS",
                "configuration change takes effect at the next start"
            );
        }
    }

    fn reject_config(&self, error: &ConfigError) {
        *lock(&self.reload_error) = Some(error.to_string());
        error!(%error, "configuration reload failed; the running configuration stays in effect");
    }

    /// Returns why the configuration file was rejected, if the last reload failed.
    pub(crate) fn reload_error(&self) -> Option<String> {
        lock(&self.reload_error).clone()
    }

    fn log_reloaded(&self) {
        let sources = self.sources();
        let rolled_back = sources.iter().filter(|source| source.rollback_reason().is_some());
        let rolled_back: Vec<_> =
            rolled_back.map(|source| source.source.name().to_string()).collect();
        if rolled_back.is_empty() {
            info!(sources = sources.len(), "configuration reloaded");
        } else {
            let rolled_back = rolled_back.join(", ");
            warn!(%rolled_back, "configuration reloaded, but source updates were rolled back");
        }
    }

    /// Reconciles the running sources with `prepared`: stops sources that are gone, updates sources that
    /// changed, starts new sources, and then reconciles the groups.
    ///
    /// # Errors
    ///
    /// The first source that cannot be started. The other sources are started.
    pub(crate) async fn set_sources(
        self: &Arc<Self>,
        prepared: Vec<Prepared>,
    ) -> Result<(), ConfigureError> {
        let config = self.config();
        let groups = config.groups.iter().map(|group| (group_state_key(&group.name), true));
        let sources =
            prepared.iter().map(|source| (source.config.name.clone(), source.config.store));
        self.persistence.configured(sources.chain(groups));
        let is_gone = |name: &SourceName| prepared.iter().all(|source| source.config.name != *name);
        let gone: Vec<_> = lock(&self.sources).extract_if(.., |name, _| is_gone(name)).collect();
        let mut changed = Vec::new();
        let mut stopping = JoinSet::new();
        for (name, source) in gone {
            info!(source = %name, "source removed");
            changed.push(name);
            stopping.spawn(source.stop());
        }
        stopping.join_all().await;
        let applied = self.apply(prepared, &mut changed).await;
        self.roster.send_modify(|changes| *changes += 1);
        self.set_groups(&config.groups, &changed).await;
        applied
    }

    /// Updates the running sources concurrently, and starts sources that do not run or have ended. Adds
    /// the names of the started sources to `changed`.
    async fn apply(
        self: &Arc<Self>,
        prepared: Vec<Prepared>,
        changed: &mut Vec<SourceName>,
    ) -> Result<(), ConfigureError> {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_UPDATES));
        let mut updates = JoinSet::new();
        let mut result = Ok(());
        for new in prepared {
            let name = new.config.name.clone();
            let running = self.source(&name);
            if let Some(source) = running.as_ref().filter(|source| !source.has_ended()) {
                let (source, this, permits) = (source.clone(), self.clone(), permits.clone());
                updates.spawn(async move {
                    let _permit = permits.acquire().await;
                    source.update(new, &this.persistence, &this.deliveries).await;
                });
                continue;
            }
            if let Some(ended) = running {
                lock(&self.sources).remove(&name);
                ended.stop().await;
            }
            match ManagedSource::start(new, &self.persistence, &self.deliveries).await {
                Ok(source) => {
                    lock(&self.sources).insert(name.clone(), Arc::new(source));
                    changed.push(name);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        updates.join_all().await;
        result
    }

    /// Reconciles the groups. A group restarts if its inputs changed: its list of sources, its debounce
    /// settings, or one of the `changed` sources.
    async fn set_groups(&self, wanted: &[GroupConfig], changed: &[SourceName]) {
        let has_same_inputs = |old: &GroupConfig| {
            let is_same = |new: &GroupConfig| {
                old.name == new.name && old.sources == new.sources && old.wait == new.wait
            };
            wanted.iter().any(is_same) && !old.sources.iter().any(|name| changed.contains(name))
        };
        let stale: Vec<_> = lock(&self.groups)
            .extract_if(.., |_, (group, _)| !has_same_inputs(group))
            .map(|(_, (_, sinks))| sinks)
            .collect();
        stop_all(stale).await;
        for new in wanted {
            let sinks = {
                let mut groups = lock(&self.groups);
                let (config, sinks) = groups
                    .entry(new.name.clone())
                    .or_insert_with(|| (new.clone(), Arc::new(SinkSet::default())));
                config.clone_from(new);
                Arc::clone(sinks)
            };
            let readers = new.sources.iter().filter_map(|name| {
                self.source(name).map(|source| (name.clone(), source.source.subscribe()))
            });
            let key = group_state_key(&new.name);
            let inputs = SinkInputs {
                owner: key.as_str(),
                readers: readers.collect(),
                wait: new.wait.as_ref(),
            };
            sinks.set(&inputs, &new.sinks, &self.persistence, &self.deliveries).await;
        }
    }

    /// Prepares the running sources that match `is_wanted` again, and updates them. A source that cannot
    /// be prepared keeps its present configuration.
    async fn update_matching(
        self: &Arc<Self>,
        is_wanted: impl Fn(&SourceConfig, &ManagedSource) -> bool,
    ) {
        let plugins = Plugins::new(&self.runtime);
        let config = self.config();
        let mut prepared = Vec::new();
        for wanted in &config.sources {
            let running = self.source(&wanted.name);
            let Some(source) = running.filter(|source| is_wanted(wanted, source)) else {
                continue;
            };
            match plugins.prepare(wanted).await {
                Ok(new) => prepared.push(new),
                Err(errors) => {
                    let messages: Vec<_> = errors.into_iter().map(|error| error.message).collect();
                    source.roll_back_update(messages.join("; "));
                }
            }
        }
        let mut changed = Vec::new();
        if let Err(error) = self.apply(prepared, &mut changed).await {
            error!(%error, "source start failed");
        }
        if !changed.is_empty() {
            self.roster.send_modify(|changes| *changes += 1);
            self.set_groups(&config.groups, &changed).await;
        }
    }

    /// Stops the sources, then the groups, and closes the state store.
    pub(crate) async fn stop(&self) {
        let _ = self.final_counts.set((self.counts(), self.sink_counts()));
        let sources = std::mem::take(&mut *lock(&self.sources));
        let stopping = sources.into_values().map(ManagedSource::stop);
        stopping.collect::<JoinSet<()>>().join_all().await;
        let groups = std::mem::take(&mut *lock(&self.groups));
        stop_all(groups.into_values().map(|(_, sinks)| sinks)).await;
        self.persistence.close(STATE_CLOSE_TIMEOUT).await;
    }
}

/// Guard that holds the phase [`Phase::Reloading`]. A reload is cancelled by a newer one, so the phase
/// is reset on drop.
struct ReloadingGuard<'a>(&'a watch::Sender<Phase>);

impl<'a> ReloadingGuard<'a> {
    fn new(phase: &'a watch::Sender<Phase>) -> Self {
        change_phase(phase, Phase::Running, Phase::Reloading);
        Self(phase)
    }
}

impl Drop for ReloadingGuard<'_> {
    fn drop(&mut self) {
        change_phase(self.0, Phase::Reloading, Phase::Running);
    }
}

/// Changes the phase to `to` if it is `from`.
fn change_phase(phase: &watch::Sender<Phase>, from: Phase, to: Phase) {
    phase.send_if_modified(|phase| {
        let is_from = *phase == from;
        if is_from {
            *phase = to;
        }
        is_from
    });
}

async fn stop_all(all: impl IntoIterator<Item = Arc<SinkSet>>) {
    let stopping = all.into_iter().map(|sinks| async move { sinks.stop().await });
    stopping.collect::<JoinSet<()>>().join_all().await;
}

/// Returns the key of a group in the state store. The prefix cannot occur in the name of a source.
fn group_state_key(group: &str) -> SourceName {
    SourceName::new(format!("group/{group}"))
}

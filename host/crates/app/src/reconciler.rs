//! Reconciler: makes the running sources and sinks equal to the desired configuration.
//!
//! Reloads run one at a time. Status queries and operations do not wait for them.

use crate::{
    config::{Config, ConfigError, GroupConfig, SourceConfig},
    config_diff,
    managed_source::ManagedSource,
    phase::{Phase, ReloadingGuard},
    prepare::{Plugins, Prepared, prepare},
    reload_veto::ReloadVeto,
    sink_set::{DeliverySender, DeliveryTotals, SinkInputs, SinkSet},
    source_and_sink_counters::{SinkCounts, SourceCounts},
    state_persistence::StatePersistence,
};
use reloader_api_types::GroupStatus;
use reloader_engine::types::SourceName;
use reloader_plugin_runtime::{ConfigureError, PluginHost};
use reloader_util::sync::Mutex;
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, Weak},
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
    /// Vetoes against new configurations.
    vetoes: Mutex<Vec<Weak<dyn ReloadVeto>>>,
    /// Error of the configuration file, if the last reload rejected it.
    config_error: Mutex<Option<String>>,
    sources: Mutex<BTreeMap<SourceName, Arc<ManagedSource>>>,
    groups: Mutex<BTreeMap<String, (GroupConfig, Arc<SinkSet>)>>,
    pub(crate) persistence: StatePersistence,
    pub(crate) deliveries: DeliverySender,
    /// Counter that changes when sources are added or removed.
    pub(crate) source_set: watch::Sender<u64>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Counters at the start of the shutdown.
    final_counts: OnceLock<(Vec<SourceCounts>, Vec<SinkCounts>)>,
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
            vetoes: Mutex::default(),
            config_error: Mutex::default(),
            sources: Mutex::default(),
            groups: Mutex::default(),
            persistence,
            deliveries,
            source_set: watch::Sender::default(),
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

    /// Registers a check that may reject a new configuration. It ends when its owner drops it.
    pub(crate) fn add_veto(&self, veto: Weak<dyn ReloadVeto>) {
        self.vetoes.lock().push(veto);
    }

    fn vetoes(&self) -> Vec<Arc<dyn ReloadVeto>> {
        let mut vetoes = self.vetoes.lock();
        vetoes.retain(|veto| veto.strong_count() > 0);
        vetoes.iter().filter_map(Weak::upgrade).collect()
    }

    /// Returns all sources, ordered by name.
    pub(crate) fn sources(&self) -> Vec<Arc<ManagedSource>> {
        self.sources.lock().values().cloned().collect()
    }

    /// Returns the source with this name.
    pub(crate) fn source(&self, name: &SourceName) -> Option<Arc<ManagedSource>> {
        self.sources.lock().get(name).cloned()
    }

    /// Returns up to `limit` required sources and sinks that are not ready, for display.
    pub(crate) fn missing(&self, limit: usize) -> Vec<String> {
        let (sources, groups) = (self.sources.lock(), self.groups.lock());
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
        let groups = self.groups.lock();
        let status = |(group, sinks): &(GroupConfig, Arc<SinkSet>)| GroupStatus {
            name: group.name.clone(),
            sources: group.sources.iter().map(ToString::to_string).collect(),
            sinks: sinks.report(group.sources.iter().any(|name| secret.contains(name))),
        };
        groups.values().map(status).collect()
    }

    /// Returns the counters of all sources. During the shutdown, returns the counters from its start.
    pub(crate) fn counts(&self) -> Vec<SourceCounts> {
        if let Some((sources, _)) = self.final_counts.get() {
            return sources.clone();
        }
        self.sources().iter().map(|source| source.counts(&self.persistence)).collect()
    }

    /// Returns whether the configuration has groups.
    pub(crate) fn has_groups(&self) -> bool {
        !self.groups.lock().is_empty()
    }

    /// Returns whether a sink of a group is settling or delivering.
    pub(crate) fn are_groups_delivering(&self) -> bool {
        self.groups.lock().values().any(|(_, sinks)| sinks.are_delivering())
    }

    /// Returns the counters of all sinks. During the shutdown, returns the counters from its start.
    pub(crate) fn sink_counts(&self) -> Vec<SinkCounts> {
        if let Some((_, sinks)) = self.final_counts.get() {
            return sinks.clone();
        }
        let sources = self.sources();
        let mut counts: Vec<_> = sources.iter().flat_map(|source| source.sink_counts()).collect();
        let groups = self.groups.lock();
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
            _ => format!("all sources have ended; the last source to end: {last}"),
        })
    }

    /// Reads the configuration file and applies it. An invalid file changes nothing.
    pub(crate) async fn reload(self: &Arc<Self>) {
        let _guard = ReloadingGuard::new(&self.phase);
        let old = self.config();
        let (current, vetoes) = (Arc::clone(&old), self.vetoes());
        let read = spawn_blocking(move || {
            let mut config = Config::read(&current.path)?;
            config.inherit_address_override(&current);
            let invalid = vetoes.iter().flat_map(|veto| veto.invalid_settings(&config));
            let invalid: Vec<_> = invalid.collect();
            if invalid.is_empty() { Ok(config) } else { Err(config.error_with(invalid)) }
        });
        let config = match read.await {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => return self.reject_config(&error),
            Err(error) => return error!(%error, "configuration reload panicked"),
        };
        let prepared = match prepare(&self.runtime, &config).await {
            Ok(prepared) => prepared,
            Err(error) => return self.reject_config(&error),
        };
        self.warn_of_deferred_changes(&old, &config);
        self.config.send_replace(Arc::new(config));
        *self.config_error.lock() = None;
        match self.set_sources(prepared).await {
            Ok(()) => self.log_reloaded(),
            Err(SourceStartError { name, error }) => {
                error!(source = %name, %error, "configuration reloaded, but a source could not be started");
            }
        }
    }

    /// Logs a warning for each changed table whose settings take effect only at the next start.
    fn warn_of_deferred_changes(&self, old: &Config, new: &Config) {
        for table in config_diff::deferred_tables(&self.initial_config, old, new) {
            let settings = (table == "listen").then_some("address, connections, use of TLS");
            warn!(
                table,
                settings, "configuration change takes effect at the next start of the host"
            );
        }
    }

    fn reject_config(&self, error: &ConfigError) {
        *self.config_error.lock() = Some(error.to_string());
        error!(%error, "configuration reload failed; the running configuration stays in effect");
    }

    /// Returns why the configuration file was rejected, if the last reload failed.
    pub(crate) fn config_error(&self) -> Option<String> {
        self.config_error.lock().clone()
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
    ) -> Result<(), SourceStartError> {
        let config = self.config();
        let groups = config.groups.iter().map(|group| (group_state_key(&group.name), true));
        let sources =
            prepared.iter().map(|source| (source.config.name.clone(), source.config.store));
        self.persistence.configured(sources.chain(groups));
        let is_removed = |name: &SourceName| config_diff::is_removed(name, &prepared);
        let removed: Vec<_> =
            self.sources.lock().extract_if(.., |name, _| is_removed(name)).collect();
        let mut changed = Vec::new();
        let mut stopping = JoinSet::new();
        for (name, source) in removed {
            info!(source = %name, "source removed");
            changed.push(name);
            stopping.spawn(source.stop());
        }
        stopping.join_all().await;
        let applied = self.apply(prepared, &mut changed).await;
        self.source_set.send_modify(|changes| *changes += 1);
        self.set_groups(&config.groups, &changed).await;
        applied
    }

    /// Updates the running sources concurrently, and starts sources that do not run or have ended. Adds
    /// the names of the started sources to `changed`.
    async fn apply(
        self: &Arc<Self>,
        prepared: Vec<Prepared>,
        changed: &mut Vec<SourceName>,
    ) -> Result<(), SourceStartError> {
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
                self.sources.lock().remove(&name);
                ended.stop().await;
            }
            match ManagedSource::start(new, &self.persistence, &self.deliveries).await {
                Ok(source) => {
                    self.sources.lock().insert(name.clone(), Arc::new(source));
                    changed.push(name);
                }
                Err(error) => {
                    result = result.and(Err(SourceStartError { name, error }));
                }
            }
        }
        updates.join_all().await;
        result
    }

    /// Reconciles the groups. A group restarts if its inputs changed, for example because one of its sources
    /// was `restarted`.
    async fn set_groups(&self, wanted: &[GroupConfig], restarted: &[SourceName]) {
        let changed = |group: &GroupConfig| config_diff::has_other_inputs(group, wanted, restarted);
        let stale: Vec<_> = self
            .groups
            .lock()
            .extract_if(.., |_, (group, _)| changed(group))
            .map(|(_, (_, sinks))| sinks)
            .collect();
        stop_all(stale).await;
        for new in wanted {
            let sinks = {
                let mut groups = self.groups.lock();
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

    /// Updates the sources that use a plugin, after a change of the plugin's file.
    pub(crate) async fn update_plugin(self: &Arc<Self>, path: &str) {
        info!(plugin = %path, "plugin file changed");
        self.update_matching(|config, _| config.plugins().any(|plugin| plugin == path)).await;
    }

    /// Retries the source updates that were rolled back.
    pub(crate) async fn retry_rolled_back(self: &Arc<Self>) {
        self.update_matching(|_, source| source.rollback_reason().is_some()).await;
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
        if let Err(SourceStartError { name, error }) = self.apply(prepared, &mut changed).await {
            error!(source = %name, %error, "source start failed");
        }
        if !changed.is_empty() {
            self.source_set.send_modify(|changes| *changes += 1);
            self.set_groups(&config.groups, &changed).await;
        }
    }

    /// Stops the sources, then the groups, and closes the state store.
    pub(crate) async fn stop(&self) {
        let _ = self.final_counts.set((self.counts(), self.sink_counts()));
        let sources = std::mem::take(&mut *self.sources.lock());
        let stopping = sources.into_values().map(ManagedSource::stop);
        stopping.collect::<JoinSet<()>>().join_all().await;
        let groups = std::mem::take(&mut *self.groups.lock());
        stop_all(groups.into_values().map(|(_, sinks)| sinks)).await;
        self.persistence.close(STATE_CLOSE_TIMEOUT).await;
    }
}

/// Error of a source that cannot be started with its settings.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct SourceStartError {
    name: SourceName,
    error: ConfigureError,
}

async fn stop_all(all: impl IntoIterator<Item = Arc<SinkSet>>) {
    let stopping = all.into_iter().map(|sinks| async move { sinks.stop().await });
    stopping.collect::<JoinSet<()>>().join_all().await;
}

/// Returns the key of a group in the state store. The prefix cannot occur in the name of a source.
fn group_state_key(group: &str) -> SourceName {
    SourceName::new(format!("group/{group}"))
}

//! Reconciler: makes the running sources and sinks equal to the desired configuration.
//!
//! Reloads run one at a time. Status queries and operations do not wait for them.

use crate::{
    config::{Config, GroupConfig},
    config_diff,
    host_phase::Phase,
    managed_source::ManagedSource,
    prepare::{PartsError, Prepared},
    reload_veto::ReloadVeto,
    sink_set::{SINK_STOP_TIMEOUT, SinkInputs, SinkSet},
    source_and_sink_counters::{SinkCounts, SourceCounts},
    state_persistence::StatePersistence,
    status_changes::ChangeNotifier,
};
use reloader_engine::types::SourceName;
use reloader_plugin_runtime::PluginHost;
use reloader_util::sync::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

/// Maximum number of sources that are updated at the same time.
const MAX_CONCURRENT_UPDATES: usize = 16;
/// Time for the state store to finish its pending writes at the end of the shutdown.
const STATE_CLOSE_RESERVE: Duration = Duration::from_secs(1);
/// Time for the sinks of groups to finish their deliveries at shutdown, after the sources have stopped.
const GROUP_STOP_RESERVE: Duration = Duration::from_millis(500);
/// Minimum time for each step of the shutdown.
const MIN_STOP_TIMEOUT: Duration = Duration::from_millis(100);

/// Running sources and groups, and the configuration that they are reconciled with.
pub(crate) struct Reconciler {
    pub(crate) runtime: PluginHost,
    /// Configuration that the host runs with. The sender notifies subscribers of each new one.
    pub(crate) config: watch::Sender<Arc<Config>>,
    /// Configuration at the start, for the settings that take effect only at the next start.
    pub(crate) initial_config: Arc<Config>,
    /// Registered checks that may reject a new configuration.
    vetoes: Mutex<Vec<Weak<dyn ReloadVeto>>>,
    /// Error of the configuration file, if the last reload rejected it.
    pub(crate) config_error: Mutex<Option<String>>,
    pub(crate) sources: Mutex<BTreeMap<SourceName, Arc<ManagedSource>>>,
    pub(crate) groups: Mutex<BTreeMap<String, (GroupConfig, Arc<SinkSet>)>>,
    pub(crate) persistence: StatePersistence,
    pub(crate) notifier: ChangeNotifier,
    /// Readiness: `true` if all required sources and sinks are ready.
    pub(crate) is_ready: watch::Sender<bool>,
    /// Counter that changes when sources are added or removed.
    pub(crate) source_set: watch::Sender<u64>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Set while the running sources and groups may differ from the configuration in effect: during a reload, after a
    /// cancelled one, and after one that could not start a source.
    pub(crate) is_reconciliation_pending: AtomicBool,
    /// Sources that were added, removed or restarted, and for which the groups are not reconciled yet. A cancelled
    /// reload leaves them for the next one.
    replaced_sources: Mutex<BTreeSet<SourceName>>,
    /// Time by which the shutdown, including the API server, must be complete.
    pub(crate) shutdown_deadline: OnceLock<Instant>,
    /// Counters as they were when the sources began to stop. Set during the shutdown.
    pub(crate) final_counts: OnceLock<(Vec<SourceCounts>, Vec<SinkCounts>)>,
}

impl Reconciler {
    /// Creates a reconciler. It starts no sources yet.
    pub(crate) fn new(
        runtime: PluginHost,
        config: Config,
        persistence: StatePersistence,
    ) -> Arc<Self> {
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
            notifier: ChangeNotifier::default(),
            is_ready: watch::Sender::default(),
            source_set: watch::Sender::default(),
            phase: watch::Sender::default(),
            is_reconciliation_pending: AtomicBool::new(false),
            replaced_sources: Mutex::default(),
            shutdown_deadline: OnceLock::new(),
            final_counts: OnceLock::new(),
        })
    }

    /// Returns the configuration that the host runs with.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Returns a receiver of the configuration in effect.
    pub(crate) fn config_changes(&self) -> watch::Receiver<Arc<Config>> {
        self.config.subscribe()
    }

    /// Registers a check that may reject a new configuration. The check is removed when its owner drops it.
    pub(crate) fn add_veto(&self, veto: Weak<dyn ReloadVeto>) {
        self.vetoes.lock().push(veto);
    }

    pub(crate) fn vetoes(&self) -> Vec<Arc<dyn ReloadVeto>> {
        let mut vetoes = self.vetoes.lock();
        vetoes.retain(|veto| veto.strong_count() > 0);
        vetoes.iter().filter_map(Weak::upgrade).collect()
    }

    /// Returns all running sources, ordered by name.
    pub(crate) fn sources(&self) -> Vec<Arc<ManagedSource>> {
        self.sources.lock().values().cloned().collect()
    }

    /// Returns up to `limit` sources that `is_selected` selects, in order, from the first name after `after`.
    pub(crate) fn sources_after(
        &self,
        after: Option<&SourceName>,
        limit: usize,
        is_selected: impl Fn(&str) -> bool,
    ) -> Vec<Arc<ManagedSource>> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let sources = self.sources.lock();
        let selected = sources
            .range::<SourceName, _>((after, Bound::Unbounded))
            .filter(|(name, _)| is_selected(name.as_str()));
        selected.take(limit).map(|(_, source)| Arc::clone(source)).collect()
    }

    /// Returns the names of all sources, in alphabetical order.
    pub(crate) fn source_names(&self) -> Vec<SourceName> {
        self.sources.lock().keys().cloned().collect()
    }

    /// Returns the number of sources.
    pub(crate) fn source_count(&self) -> usize {
        self.sources.lock().len()
    }

    /// Returns the source with this name.
    pub(crate) fn source(&self, name: &SourceName) -> Option<Arc<ManagedSource>> {
        self.sources.lock().get(name).cloned()
    }

    /// Tells the state store which sources and groups are configured, and whose values it stores.
    pub(crate) fn set_stored_values(&self, config: &Config) {
        let groups = config.groups.iter().map(|group| (group_state_key(&group.name), true));
        let sources = config.sources.iter().map(|source| (source.name.clone(), source.store));
        self.persistence.configured(sources.chain(groups));
    }

    /// Starts all sources and groups of the configuration.
    ///
    /// # Errors
    ///
    /// The first source that cannot be started. The other sources are started.
    pub(crate) async fn start(
        self: &Arc<Self>,
        prepared: Vec<Prepared>,
    ) -> Result<(), SourceStartError> {
        self.set_stored_values(&self.config());
        self.set_sources(prepared).await
    }

    /// Reconciles the running sources with the configuration: stops removed sources, updates and starts the
    /// `prepared` ones, and then reconciles the groups.
    ///
    /// # Errors
    ///
    /// The first source that cannot be started. The other sources are started.
    pub(crate) async fn set_sources(
        self: &Arc<Self>,
        prepared: Vec<Prepared>,
    ) -> Result<(), SourceStartError> {
        let config = self.config();
        let wanted: HashSet<_> = config.sources.iter().map(|source| &source.name).collect();
        let removed: Vec<_> =
            self.sources.lock().extract_if(.., |name, _| !wanted.contains(name)).collect();
        let mut stopping = JoinSet::new();
        for (name, source) in removed {
            info!(source = %name, "source removed");
            self.source_replaced(&name);
            stopping.spawn(source.stop());
        }
        stopping.join_all().await;
        let applied = self.apply(prepared).await;
        self.set_groups(&config.groups).await;
        // A source that could not be started is not in `sources`, so it is not retried as a failed update. The pending
        // reconciliation makes the periodic retry start it.
        self.is_reconciliation_pending.store(applied.is_err(), Ordering::Relaxed);
        applied
    }

    /// Records that a source was added, removed or replaced.
    fn source_replaced(&self, name: &SourceName) {
        self.replaced_sources.lock().insert(name.clone());
        self.notifier.source_changed(name);
    }

    /// Updates the running sources concurrently, and starts sources that do not run or have ended.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        prepared: Vec<Prepared>,
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
                    source.update(new, &this.persistence, &this.notifier).await;
                });
                continue;
            }
            if let Some(ended) = running {
                self.sources.lock().remove(&name);
                ended.stop().await;
            }
            match ManagedSource::start(new, &self.persistence, &self.notifier).await {
                Ok(source) => {
                    self.sources.lock().insert(name.clone(), Arc::new(source));
                    self.source_replaced(&name);
                }
                Err(error) => {
                    result = result.and(Err(SourceStartError { name, error }));
                }
            }
        }
        updates.join_all().await;
        result
    }

    /// Reconciles the groups. The sinks of a group restart if its inputs changed, for example because one of its
    /// sources was replaced.
    pub(crate) async fn set_groups(&self, wanted: &[GroupConfig]) {
        let replaced = self.replaced_sources.lock().clone();
        if !replaced.is_empty() {
            self.source_set.send_modify(|changes| *changes += 1);
        }
        let by_name: HashMap<_, _> =
            wanted.iter().map(|group| (group.name.as_str(), group)).collect();
        let is_stale = |name: &String, group: &GroupConfig| {
            let new = by_name.get(name.as_str()).copied();
            config_diff::has_other_inputs(group, new, &replaced)
        };
        let stale: Vec<_> =
            self.groups.lock().extract_if(.., |name, (group, _)| is_stale(name, group)).collect();
        for (name, _) in &stale {
            self.notifier.group_changed(&group_state_key(name));
        }
        stop_all(stale.into_iter().map(|(_, (_, sinks))| sinks), SINK_STOP_TIMEOUT).await;
        for new in wanted {
            let key = group_state_key(&new.name);
            // The readiness of the group depends on `required` of its sources, which the reload may have changed.
            self.notifier.group_changed(&key);
            let sinks = {
                let mut groups = self.groups.lock();
                // Until its sinks run, the group is recorded without sinks: after a cancelled reload, the next one then
                // finds a difference and sets the sinks.
                let without_sinks = || GroupConfig { sinks: Vec::new(), ..new.clone() };
                let group = groups.entry(new.name.clone());
                let (config, sinks) = group.or_insert_with(|| (without_sinks(), Arc::default()));
                if config == new {
                    continue;
                }
                *config = without_sinks();
                Arc::clone(sinks)
            };
            let readers = new.sources.iter().filter_map(|name| {
                self.source(name).map(|source| (name.clone(), source.source.subscribe()))
            });
            let readers = readers.collect();
            let inputs = SinkInputs {
                owner: &key,
                is_group: true,
                readers,
                optional: &new.optional,
                wait: new.wait.as_ref(),
            };
            sinks.set(&inputs, &new.sinks, &self.persistence, &self.notifier).await;
            if let Some((config, _)) = self.groups.lock().get_mut(&new.name) {
                config.clone_from(new);
            }
        }
        self.replaced_sources.lock().retain(|name| !replaced.contains(name));
    }

    /// Stops the sources, then the groups, and closes the state store. Aborts the sources and sinks that have not ended
    /// in their share of the time until `deadline`.
    pub(crate) async fn stop(&self, deadline: Instant) {
        let _ = self.final_counts.set((self.counts(), self.sink_counts()));
        let sources = std::mem::take(&mut *self.sources.lock());
        let limit = remaining(deadline, STATE_CLOSE_RESERVE + GROUP_STOP_RESERVE);
        let stopping = sources.into_values().map(|source| source.stop_within(limit));
        let stopping = stopping.collect::<JoinSet<()>>().join_all();
        // This timeout is needed in addition to `limit`, which applies to the sinks of a source and then again to the
        // source itself: together, they may take twice as long.
        if timeout_at(deadline - STATE_CLOSE_RESERVE, stopping).await.is_err() {
            warn!("source shutdown timed out, aborting the remaining sources");
        }
        let groups = std::mem::take(&mut *self.groups.lock());
        let limit = remaining(deadline, STATE_CLOSE_RESERVE);
        stop_all(groups.into_values().map(|(_, sinks)| sinks), limit).await;
        self.persistence.close(remaining(deadline, Duration::ZERO)).await;
    }
}

/// Returns the time until `reserve` before a deadline, and at least [`MIN_STOP_TIMEOUT`].
fn remaining(deadline: Instant, reserve: Duration) -> Duration {
    (deadline - reserve).saturating_duration_since(Instant::now()).max(MIN_STOP_TIMEOUT)
}

/// Error of a source that cannot be started with its settings.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct SourceStartError {
    pub(crate) name: SourceName,
    pub(crate) error: PartsError,
}

async fn stop_all(all: impl IntoIterator<Item = Arc<SinkSet>>, limit: Duration) {
    let stopping = all.into_iter().map(|sinks| async move { sinks.stop(limit).await });
    stopping.collect::<JoinSet<()>>().join_all().await;
}

/// Prefix of the key of a group in the state store. It cannot occur in the name of a source.
pub(crate) const GROUP_PREFIX: &str = "group/";

/// Returns the key of a group in the state store.
pub(crate) fn group_state_key(group: &str) -> SourceName {
    SourceName::new(format!("{GROUP_PREFIX}{group}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::ready, path::Path};

    fn config(group_sinks: &str) -> Config {
        let text = format!(
            "[[source]]\nname = 'a'\nplugin = 'file'\nconfig.path = 'a'\n\
             [[group]]\nname = 'g'\nsources = ['a']\n{group_sinks}"
        );
        Config::parse(Path::new("reloader.toml"), &text).unwrap()
    }

    /// A reload that changes the sink of a group is cancelled while the old sink stops. The next reload goes back to
    /// the first configuration, and starts its sink again.
    #[tokio::test]
    async fn cancelled_group_reload_is_repeated() {
        let before = config("[[group.sink]]\ntype = 'stdout'\n");
        let after = config("[[group.sink]]\ntype = 'stdout'\nformat = 'raw'\n");
        let runtime = PluginHost::new().unwrap();
        let reconciler = Reconciler::new(runtime, config(""), StatePersistence::disabled());
        let sinks = || reconciler.groups.lock()["g"].1.report(false).len();
        reconciler.set_groups(&before.groups).await;
        assert_eq!(sinks(), 1);
        tokio::select! {
            biased;
            () = reconciler.set_groups(&after.groups) => unreachable!("waits for the old sink"),
            () = ready(()) => {}
        }
        reconciler.set_groups(&before.groups).await;
        assert_eq!(sinks(), 1);
    }
}

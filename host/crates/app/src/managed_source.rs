//! Managed source: a running source with its sinks, updated in place when its configuration changes.

use crate::{
    changes_per_minute::ChangesPerMinute,
    config_diff::{SourceChange, source_change},
    prepare::{PartsError, Prepared},
    sink_set::{SINK_STOP_TIMEOUT, SinkInputs, SinkSet},
    state_persistence::StatePersistence,
    status_changes::ChangeNotifier,
};
use reloader_engine::types::{Failure, Outcome, Revision, Strategy};
use reloader_source::{metrics::Counters, provider::Provider, running_source::Source};
use reloader_util::sync::{Mutex, MutexGuard};
use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::AbortHandle, time::timeout};
use tracing::{error, info, warn};

/// Time between two retries of the source updates that failed.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// A running source with its sinks.
pub(crate) struct ManagedSource {
    pub(crate) source: Arc<Source>,
    pub(crate) sinks: SinkSet,
    active: Arc<Mutex<Active>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) changes: Arc<ChangesPerMinute>,
    /// Task that counts changes and logs a permanent failure.
    observer: AbortHandle,
    /// Lock that serialises rollback and resume, so that the state store and the published value change
    /// in the same order.
    pub(crate) pin_lock: tokio::sync::Mutex<()>,
}

/// Configuration and provider that a source runs with at the moment.
struct Active {
    prepared: Arc<Prepared>,
    provider: Arc<dyn Provider>,
    /// Reason why the last update failed. The plugin and settings from before the update are in effect then.
    rollback_reason: Option<String>,
    /// Set during an update, and after a cancelled update.
    is_updating: bool,
}

impl ManagedSource {
    /// Starts a source and its sinks from their restored state.
    pub(crate) async fn start(
        prepared: Prepared,
        persistence: &StatePersistence,
        notifier: &ChangeNotifier,
    ) -> Result<Self, PartsError> {
        let name = prepared.config.name.clone();
        let counters = Arc::<Counters>::default();
        let parts = prepared.parts(&counters).await?;
        let provider = Arc::clone(&parts.provider);
        let restored = persistence.restore_source(&name).await?;
        let resumed = restored.resumed.as_ref();
        let resumed = resumed.map_or_else(Revision::default, |resumed| resumed.revision);
        let source = Arc::new(Source::start_with(name, parts, restored));
        let changes = Arc::new(ChangesPerMinute::new(Instant::now()));
        let prepared = Arc::new(prepared);
        let active = Active { prepared, provider, rollback_reason: None, is_updating: false };
        let active = Arc::new(Mutex::new(active));
        let observer = Observer {
            active: Arc::clone(&active),
            changes: Arc::clone(&changes),
            notifier: notifier.clone(),
        };
        let observer = observer.start(&source, resumed);
        let sinks = SinkSet::default();
        persistence.load_changes(source.name(), Arc::clone(&changes));
        let pin_lock = tokio::sync::Mutex::default();
        let managed = Self { source, sinks, active, counters, changes, observer, pin_lock };
        managed.set_sinks(persistence, notifier).await;
        Ok(managed)
    }

    /// Returns the configuration that the source runs with, with its loaded plugin.
    pub(crate) fn prepared(&self) -> Arc<Prepared> {
        Arc::clone(&self.active().prepared)
    }

    /// Returns why the last update failed, if it did: the plugin and settings from before the update are in effect.
    pub(crate) fn rollback_reason(&self) -> Option<String> {
        self.active().rollback_reason.clone()
    }

    /// Returns whether the last update failed, so that the plugin and settings from before it are in effect.
    pub(crate) fn is_rolled_back(&self) -> bool {
        self.active().rollback_reason.is_some()
    }

    /// Returns whether the configuration of the last update is not in effect: the update failed, was cancelled, or is
    /// running.
    pub(crate) fn is_update_pending(&self) -> bool {
        let active = self.active();
        active.is_updating || active.rollback_reason.is_some()
    }

    /// Returns the provider that the source runs with.
    pub(crate) fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.active().provider)
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock()
    }

    /// Updates the source to a new configuration.
    ///
    /// Sinks, `required`, `store` and `readable` concern only the host and take effect at once. If other settings
    /// changed, a new provider replaces the old one. If the plugin or its settings changed, the new
    /// provider must first answer a trial call, while the old provider keeps running. If the update fails, the
    /// old provider stays, and the update is retried later.
    pub(crate) async fn update(
        &self,
        new: Prepared,
        persistence: &StatePersistence,
        notifier: &ChangeNotifier,
    ) {
        let old = Arc::new(Prepared::clone(&self.prepared()).with_host_settings_of(&new.config));
        self.begin_update(&old);
        self.set_sinks(persistence, notifier).await;
        let change = source_change(&old, &new);
        let replaced = match change {
            SourceChange::HostSettings => Ok(()),
            _ => self.replace(&old, &new, change).await,
        };
        if let Err(reason) = replaced {
            return self.roll_back_update(reason, notifier);
        }
        self.end_update(new);
        notifier.source_changed(self.source.name());
    }

    fn begin_update(&self, prepared: &Arc<Prepared>) {
        let mut active = self.active();
        active.prepared = Arc::clone(prepared);
        active.is_updating = true;
    }

    fn end_update(&self, prepared: Prepared) {
        let mut active = self.active();
        (active.rollback_reason, active.is_updating) = (None, false);
        active.prepared = Arc::new(prepared);
    }

    /// Records the failure of an update. Logs it unless the previous update failed for the same reason.
    pub(crate) fn roll_back_update(&self, reason: String, notifier: &ChangeNotifier) {
        let source = self.source.name();
        let mut active = self.active();
        if active.rollback_reason.as_ref() != Some(&reason) {
            warn!(
                %source, error = %reason, retry_in = ?RETRY_INTERVAL,
                "source update failed, keeping the previous plugin and settings"
            );
            active.rollback_reason = Some(reason);
        }
        drop(active);
        notifier.source_changed(source);
    }

    /// Replaces the provider, after a trial call if the plugin or its settings changed.
    async fn replace(
        &self,
        old: &Prepared,
        new: &Prepared,
        change: SourceChange,
    ) -> Result<(), String> {
        let parts = new.parts(&self.counters).await.map_err(|error| error.to_string())?;
        let timeout_after = new.config.limits.call_timeout.saturating_mul(2);
        let cursor = self.source.subscribe().get().and_then(|value| value.cursor);
        let is_polled = parts.settings.strategy == Strategy::Polling;
        if change == SourceChange::PluginInput {
            let trial = async {
                // The engine reads again after the replacement, so the value of the trial read is not needed.
                let _: Outcome = parts.provider.reader().read(cursor.clone()).await?;
                if !is_polled {
                    drop(parts.provider.arm(cursor).await?);
                }
                Ok::<_, Failure>(())
            };
            match timeout(timeout_after, trial).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    return Err(format!(
                        "trial call with the new plugin and settings failed: {failure}"
                    ));
                }
                Err(_) => {
                    return Err(format!(
                        "trial call with the new plugin and settings timed out after {timeout_after:?}"
                    ));
                }
            }
        }
        self.active().provider = Arc::clone(&parts.provider);
        self.source.replace(parts).await;
        let source = &new.config.name;
        let plugin = new.plugin.description();
        if old.plugin.description().digest == plugin.digest {
            info!(%source, "source settings updated");
        } else {
            info!(%source, sha256 = %plugin.digest, "source plugin replaced");
        }
        Ok(())
    }

    async fn set_sinks(&self, persistence: &StatePersistence, notifier: &ChangeNotifier) {
        let prepared = self.prepared();
        let name = &prepared.config.name;
        let readers = vec![(name.clone(), self.source.subscribe())];
        let inputs =
            SinkInputs { owner: name, is_group: false, readers, optional: &[], wait: None };
        self.sinks.set(&inputs, &prepared.config.sinks, persistence, notifier).await;
    }

    /// Returns whether the source has no value, or one of its sinks has not delivered yet.
    pub(crate) fn is_missing(&self) -> bool {
        self.source.subscribe().get().is_none() || self.sinks.is_missing()
    }

    /// Returns what is not ready, for display: the source if it has no value, else its sinks that
    /// have not delivered yet.
    pub(crate) fn missing(&self) -> Vec<String> {
        let name = self.source.name();
        if self.source.subscribe().get().is_none() {
            return vec![format!("source `{name}`")];
        }
        let sinks = self.sinks.missing().into_iter();
        sinks.map(|sink| format!("sink `{name}/{sink}`")).collect()
    }

    /// Returns whether the source ended because of a permanent failure.
    pub(crate) fn has_ended(&self) -> bool {
        self.source.gave_up().is_some()
    }

    /// Returns the permanent failure that ended the source, as a message for the operator.
    pub(crate) fn end_reason(&self) -> Option<String> {
        let failure = self.source.gave_up()?;
        Some(format!("source `{}` has ended: {failure}", self.source.name()))
    }

    /// Stops the sinks and then the source. If an operation still holds a reference to the source, the
    /// source stops when the operation ends.
    pub(crate) async fn stop(self: Arc<Self>) {
        self.stop_within(SINK_STOP_TIMEOUT).await;
    }

    /// Stops the sinks, each within `limit`, and then the source.
    pub(crate) async fn stop_within(self: Arc<Self>, limit: Duration) {
        self.observer.abort();
        self.sinks.stop(limit).await;
        let name = self.source.name().clone();
        if let Some(managed) = Arc::into_inner(self)
            && let Some(source) = Arc::into_inner(managed.source)
            && timeout(limit, source.stop()).await.is_err()
        {
            warn!(source = %name, timeout = ?limit, "source stop timed out");
        }
    }
}

/// Counts the changes of a source, reports its status changes, and logs its permanent failure. For a source
/// without sinks, each publication counts as a delivery, so that the command is notified of it.
struct Observer {
    active: Arc<Mutex<Active>>,
    changes: Arc<ChangesPerMinute>,
    notifier: ChangeNotifier,
}

impl Observer {
    /// Starts the observer as a task. Does not count the restored revision as a change.
    fn start(self, source: &Arc<Source>, restored: Revision) -> AbortHandle {
        let (mut subscription, name) = (source.subscribe(), source.name().clone());
        let source = Arc::downgrade(source);
        let task = tokio::spawn(async move {
            let (mut published, mut counted) = (Revision::default(), restored);
            while subscription.status_changed().await.is_ok() {
                let before = mem::replace(&mut published, subscription.state().revision);
                let new = published.get().saturating_sub(counted.get());
                self.changes.add(new, Instant::now());
                counted = published;
                if published != before && self.has_no_sinks() {
                    self.notifier.deliveries.send_modify(|totals| totals.changes += 1);
                }
                self.notifier.source_changed(&name);
            }
            let Some(source) = source.upgrade() else { return };
            if let Some(failure) = source.gave_up() {
                error!(source = %name, error = %failure, "source ended");
                self.notifier.source_changed(&name);
            }
        });
        task.abort_handle()
    }

    fn has_no_sinks(&self) -> bool {
        self.active.lock().prepared.config.sinks.is_empty()
    }
}

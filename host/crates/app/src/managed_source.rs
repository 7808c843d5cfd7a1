//! Managed source: a running source with its sinks, replaced in place when its configuration changes.

use crate::{
    change_histogram::ChangeHistogram,
    persistence::StatePersistence,
    prepare::Prepared,
    reload_triggers::RETRY_INTERVAL,
    sink_set::{DeliverySender, REASON_ONLY_LOGGED, SinkInputs, SinkSet},
    status::{SinkCounts, SourceCounts},
};
use reloader_api_types::{ListedSource, RefusedAccess, SourceDetail, SourceStatus, Totals};
use reloader_engine::types::{Failure, Outcome, Revision, Strategy};
use reloader_plugin_runtime::ConfigureError;
use reloader_source::{
    handle::Source,
    metrics::{Counters, Counts},
    provider::{Confinement, Provider},
    store::SourceState,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::{task::AbortHandle, time::timeout};
use tracing::{error, info, warn};

/// A running source with its sinks.
pub(crate) struct ManagedSource {
    pub(crate) source: Arc<Source>,
    sinks: SinkSet,
    active: Mutex<Active>,
    counters: Arc<Counters>,
    histogram: Arc<ChangeHistogram>,
    /// Task that counts changes and logs a permanent failure.
    observer: AbortHandle,
    /// Lock that serialises rollback and resume, so that the state store and the published value change
    /// in the same order.
    pub(crate) pin_lock: tokio::sync::Mutex<()>,
}

/// Configuration and provider in effect.
struct Active {
    prepared: Arc<Prepared>,
    provider: Arc<dyn Provider>,
    /// Reason why the last update was rolled back, so that an older configuration is in effect.
    rollback_reason: Option<String>,
}

impl ManagedSource {
    /// Starts a source and its sinks from their restored state.
    pub(crate) async fn start(
        prepared: Prepared,
        persistence: &StatePersistence,
        deliveries: &DeliverySender,
    ) -> Result<Self, ConfigureError> {
        let name = &prepared.config.name;
        let counters = Arc::<Counters>::default();
        let parts = prepared.builder.clone().counters(Arc::clone(&counters)).make()?;
        let provider = Arc::clone(&parts.provider);
        let restored = persistence.restore_source(name);
        let resumed = restored.resumed.as_ref();
        let resumed = resumed.map_or_else(Revision::default, |resumed| resumed.revision);
        let source = Arc::new(Source::start_with(name.clone(), parts, restored));
        let histogram = Arc::new(ChangeHistogram::new(Instant::now()));
        let counted = (Arc::clone(&histogram), resumed);
        let observer = observe(&source, counted, deliveries.clone(), &prepared);
        let prepared = Arc::new(prepared);
        let active = Mutex::new(Active { prepared, provider, rollback_reason: None });
        let sinks = SinkSet::default();
        persistence.load_histogram(source.name(), Arc::clone(&histogram));
        let pin_lock = tokio::sync::Mutex::default();
        let managed = Self { source, sinks, active, counters, histogram, observer, pin_lock };
        managed.set_sinks(persistence, deliveries).await;
        Ok(managed)
    }

    /// Returns the prepared configuration in effect.
    pub(crate) fn prepared(&self) -> Arc<Prepared> {
        Arc::clone(&self.active().prepared)
    }

    /// Returns why the last update was rolled back, if an older configuration is in effect.
    pub(crate) fn rollback_reason(&self) -> Option<String> {
        self.active().rollback_reason.clone()
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the source to a new configuration.
    ///
    /// Settings of the host take effect at once: sinks, `required`, `store`, `readable`. If other settings
    /// changed, a new provider replaces the old one. If the plugin or its settings changed, the new
    /// provider must first answer a trial call, while the old provider keeps running. If a step fails, the
    /// update is rolled back and retried later.
    pub(crate) async fn update(
        &self,
        new: Prepared,
        persistence: &StatePersistence,
        deliveries: &DeliverySender,
    ) {
        let old = Arc::new(Prepared::clone(&self.prepared()).with_host_settings_of(&new.config));
        self.active().prepared = Arc::clone(&old);
        self.set_sinks(persistence, deliveries).await;
        if !old.is_same_source(&new)
            && let Err(reason) = self.replace(&old, &new).await
        {
            return self.roll_back_update(reason);
        }
        let mut active = self.active();
        active.rollback_reason = None;
        active.prepared = Arc::new(new);
    }

    /// Records that an update was rolled back. A repeated reason is not logged again.
    pub(crate) fn roll_back_update(&self, reason: String) {
        let mut active = self.active();
        if active.rollback_reason.as_ref() != Some(&reason) {
            let source = self.source.name();
            warn!(%source, error = %reason, retry_in = ?RETRY_INTERVAL, "source update rolled back");
            active.rollback_reason = Some(reason);
        }
    }

    /// Replaces the provider, after a trial call if the input of the plugin changed.
    async fn replace(&self, old: &Prepared, new: &Prepared) -> Result<(), String> {
        let counters = Arc::clone(&self.counters);
        let parts =
            new.builder.clone().counters(counters).make().map_err(|error| error.to_string())?;
        let timeout_after = new.config.limits.call_timeout.saturating_mul(2);
        let cursor = self.source.subscribe().get().and_then(|value| value.cursor);
        let is_polled = parts.settings.strategy == Strategy::Polling;
        if !old.has_same_input(new) {
            let trial = async {
                // The engine reads again after the replacement, so the outcome is not needed.
                let _: Outcome = parts.provider.reader().read(cursor.clone()).await?;
                if !is_polled {
                    drop(parts.provider.arm(cursor).await?);
                }
                Ok::<_, Failure>(())
            };
            match timeout(timeout_after, trial).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    return Err(format!("trial call with the new settings failed: {failure}"));
                }
                Err(_) => {
                    return Err(format!(
                        "trial call with the new settings timed out after {timeout_after:?}"
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

    async fn set_sinks(&self, persistence: &StatePersistence, deliveries: &DeliverySender) {
        let prepared = self.prepared();
        let name = &prepared.config.name;
        let readers = vec![(name.clone(), self.source.subscribe())];
        let inputs = SinkInputs { owner: name.as_str(), readers, wait: None };
        self.sinks.set(&inputs, &prepared.config.sinks, persistence, deliveries).await;
    }

    /// Returns what is not ready, for display: the source if it has no value, else its sinks without a
    /// delivery.
    pub(crate) fn missing(&self) -> Vec<String> {
        let name = self.source.name();
        if self.source.subscribe().get().is_none() {
            return vec![format!("source `{name}`")];
        }
        let sinks = self.sinks.missing().into_iter();
        sinks.map(|sink| format!("sink `{name}/{sink}`")).collect()
    }

    /// Returns the status of the source and its sinks.
    pub(crate) fn status(&self, persistence: &StatePersistence) -> SourceStatus {
        self.status_in(&self.source.subscribe().state(), persistence)
    }

    fn status_in(&self, state: &SourceState, persistence: &StatePersistence) -> SourceStatus {
        let prepared = self.prepared();
        let config = &prepared.config;
        let has_revision = state.revision.get() > 0;
        let ended = self.source.gave_up().map(ToString::to_string);
        let state_name = match (&state.value, &state.stale) {
            _ if ended.is_some() => "ended",
            (None, _) if !has_revision => "waiting",
            (None, None) => "removed",
            (_, Some(_)) => "stale",
            (Some(_), None) => "current",
        };
        // The reason may reveal the length or a line of a secret value.
        let is_secret = !config.readable;
        let rejected = state.refused.as_ref().map(|rejected| match is_secret {
            true => format!("value rejected; {REASON_ONLY_LOGGED}"),
            false => format!("value rejected: {}", rejected.reason),
        });
        let failing = state.failing.as_ref().map(ToString::to_string);
        let stale = state.stale.as_ref().map(|stale| stale.reason.to_string());
        SourceStatus {
            name: config.name.to_string(),
            plugin: config.plugin.clone(),
            state: state_name.into(),
            pinned: persistence.pinned(&config.name).map(|revision| revision.get()),
            revision: state.revision.get(),
            at: has_revision.then_some(state.at),
            last_success_at: Some(state.last_success_at).filter(|at| at.as_nanosecond() > 0),
            trouble: ended.or(rejected).or(failing).or(stale).or_else(|| self.rollback_reason()),
            sinks: self.sinks.report(is_secret),
        }
    }

    /// Returns the status, and the changes per minute in the last hour.
    pub(crate) fn listed(&self, persistence: &StatePersistence) -> ListedSource {
        let activity = self.histogram.read(Instant::now());
        ListedSource { status: self.status(persistence), activity }
    }

    /// Returns the status and the counters.
    pub(crate) fn counts(&self, persistence: &StatePersistence) -> SourceCounts {
        let state = self.source.subscribe().state();
        let status = self.status_in(&state, persistence);
        SourceCounts {
            status,
            readable: self.prepared().config.readable,
            state,
            counts: self.counters.read(),
            confinement: self.confinement(),
        }
    }

    /// Returns the counters of the sinks.
    pub(crate) fn sink_counts(&self) -> Vec<SinkCounts> {
        self.sinks.counts(self.source.name().as_str())
    }

    fn confinement(&self) -> Confinement {
        let provider = Arc::clone(&self.active().provider);
        provider.confinement().unwrap_or_default()
    }

    /// Returns all details: status, settings, counters, grants and denials.
    pub(crate) fn detail(&self, persistence: &StatePersistence) -> SourceDetail {
        let SourceCounts { status, readable, state, counts, confinement } =
            self.counts(persistence);
        let prepared = self.prepared();
        let strategy = prepared.config.strategy;
        let strategy = strategy.unwrap_or_else(|| prepared.plugin.default_strategy());
        let value = state.value.filter(|_| readable);
        let denied = confinement.refused.into_iter();
        SourceDetail {
            status,
            strategy: strategy.to_string(),
            readable,
            media_type: value
                .as_ref()
                .and_then(|value| value.media_type.as_deref().map(Into::into)),
            size: value.map(|value| value.content.len() as u64),
            counters: totals(&counts, confinement.memory),
            granted: confinement.granted,
            refused: denied.map(|(what, count)| RefusedAccess { what, count }).collect(),
            activity: self.histogram.read(Instant::now()),
        }
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

    /// Stops the sinks and then the source. If a command still holds a reference to the source, the
    /// source stops when the command ends.
    pub(crate) async fn stop(self: Arc<Self>) {
        self.observer.abort();
        self.sinks.stop().await;
        if let Some(managed) = Arc::into_inner(self)
            && let Some(source) = Arc::into_inner(managed.source)
        {
            source.stop().await;
        }
    }
}

fn totals(counts: &Counts, memory: usize) -> Totals {
    let all = |failures: &[(_, u64)]| failures.iter().map(|(_, count)| count).sum();
    let crashes = [&counts.read_failures, &counts.watch_failures].into_iter().flatten();
    let crashes = crashes.filter(|(kind, _)| *kind == "crashed").map(|(_, count)| count).sum();
    let reactions = counts.reactions.count();
    Totals {
        changes: counts.changes,
        removals: counts.removals,
        refused_values: counts.refused_values,
        reads: counts.reads.count(),
        read_failures: all(&counts.read_failures),
        watches: counts.watches,
        watch_failures: all(&counts.watch_failures),
        crashes,
        refused_accesses: counts.refused_accesses,
        cpu_seconds: counts.cpu.as_secs_f64(),
        memory: memory as u64,
        reaction_seconds: (reactions > 0)
            .then(|| counts.reactions.sum.as_secs_f64() / reactions as f64),
    }
}

/// Starts a task that counts the changes of a source in its histogram, and logs a permanent failure of
/// the source. A source without sinks counts as delivered when its value is published.
fn observe(
    source: &Arc<Source>,
    (histogram, resumed): (Arc<ChangeHistogram>, Revision),
    deliveries: DeliverySender,
    prepared: &Prepared,
) -> AbortHandle {
    let (name, has_sinks) = (source.name().clone(), !prepared.config.sinks.is_empty());
    let (mut reader, source) = (source.subscribe(), Arc::downgrade(source));
    let task = tokio::spawn(async move {
        // The restored value is not a change.
        let (mut known, mut counted) = (Revision::default(), resumed.get());
        while reader.changed().await.is_ok() {
            let revision = std::mem::replace(&mut known, reader.state().revision);
            histogram.add(known.get().saturating_sub(counted), Instant::now());
            counted = known.get();
            if revision != known && !has_sinks {
                deliveries.send_modify(|totals| {
                    totals.first_deliveries += 1;
                    totals.changes += 1;
                });
            }
        }
        if let Some(failure) = source.upgrade().as_deref().and_then(Source::gave_up) {
            error!(source = %name, error = %failure, "source ended");
            deliveries.send_modify(|totals| totals.ended += 1);
        }
    });
    task.abort_handle()
}

//! Handle to a running configuration, for status queries and operations from the same process.

use crate::{
    config::Config,
    host_phase::Phase,
    operation_error::OperationError,
    reconciler::Reconciler,
    reload_veto::ReloadVeto,
    source_and_sink_counters::{SinkCounts, SourceCounts},
    status_changes::StatusChanges,
};
use reloader_api_types::{
    GroupStatus, HistoryEntry, ListedSource, RejectedValue, SourceDetail, SourceStatus,
};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_source::latest_value::Subscription;
use std::sync::Arc;
use tokio::{sync::watch, time::Instant};

/// Handle to a running configuration: status, values and operations. Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Reconciler>);

impl Handle {
    /// Returns a receiver of the host's phase: running, reloading or stopping.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Returns whether the host is shutting down.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.0.phase.borrow() == Phase::Stopping
    }

    /// Returns the time by which the shutdown must be complete, including the shutdown of the API server. `None`
    /// until the sources and sinks begin to stop.
    #[must_use]
    pub fn shutdown_deadline(&self) -> Option<Instant> {
        self.0.shutdown_deadline.get().copied()
    }

    /// Returns the names of all sources, in alphabetical order.
    #[must_use]
    pub fn source_names(&self) -> Vec<SourceName> {
        self.0.source_names()
    }

    /// Returns the status of all sources, ordered by name.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.0.status()
    }

    /// Returns the status of a source, or `None` if the source does not exist.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<SourceStatus> {
        let source = self.0.source(&SourceName::new(name));
        source.map(|source| source.status(&self.0.persistence))
    }

    /// Returns a page of sources, ordered by name: the status and the changes per minute in the last hour of up to
    /// `limit` sources that `is_listed` selects, from the first name after `after`. Also returns the last name of the
    /// page, if there are more sources.
    #[must_use]
    pub fn list(
        &self,
        after: Option<&str>,
        limit: usize,
        is_listed: impl Fn(&str) -> bool,
    ) -> (Vec<ListedSource>, Option<String>) {
        let after = after.map(SourceName::new);
        let mut sources = self.0.sources_after(after.as_ref(), limit.saturating_add(1), is_listed);
        let has_more = sources.len() > limit;
        sources.truncate(limit);
        let last = sources.last().filter(|_| has_more);
        let last = last.map(|source| source.source.name().to_string());
        let listed = sources.iter().map(|source| source.listed(&self.0.persistence));
        (listed.collect(), last)
    }

    /// Returns all details of a source, or `None` if the source does not exist.
    #[must_use]
    pub fn detail(&self, name: &str) -> Option<SourceDetail> {
        let source = self.0.source(&SourceName::new(name));
        source.map(|source| source.detail(&self.0.persistence))
    }

    /// Returns the status of all groups, ordered by name.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.0.group_status()
    }

    /// Returns the counters of all sources, ordered by name. During the shutdown, returns the counters as they were
    /// when the sources began to stop.
    #[must_use]
    pub fn counts(&self) -> Vec<SourceCounts> {
        self.0.counts()
    }

    /// Returns the counters of all sinks: first the sinks of sources, then the sinks of groups. During the shutdown,
    /// returns the counters as they were when the sources began to stop.
    #[must_use]
    pub fn sink_counts(&self) -> Vec<SinkCounts> {
        self.0.sink_counts()
    }

    /// Returns whether clients may read the values of a source, or `None` if the source does not exist.
    #[must_use]
    pub fn is_readable(&self, name: &str) -> Option<bool> {
        let source = self.0.source(&SourceName::new(name));
        source.map(|source| source.prepared().config.readable)
    }

    /// Subscribes to the values of a source. Returns `None` if the source does not exist.
    #[must_use]
    pub fn subscribe(&self, name: &str) -> Option<Subscription> {
        let source = self.0.source(&SourceName::new(name));
        source.map(|source| source.source.subscribe())
    }

    /// Returns a receiver that is notified when sources are added or removed.
    #[must_use]
    pub fn source_set(&self) -> watch::Receiver<u64> {
        self.0.source_set.subscribe()
    }

    /// Returns a receiver of the names of the sources whose status changes.
    #[must_use]
    pub fn status_changes(&self) -> StatusChanges {
        self.0.notifier.subscribe()
    }

    /// Returns a receiver of the readiness: whether all required sources and sinks are ready.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.0.is_ready.subscribe()
    }

    /// Returns the configuration in effect.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.0.config()
    }

    /// Returns a receiver of the configuration in effect.
    #[must_use]
    pub fn config_changes(&self) -> watch::Receiver<Arc<Config>> {
        self.0.config_changes()
    }

    /// Registers a check that may reject a new configuration. The host keeps a weak reference: the check is
    /// removed when the caller drops `veto`.
    pub fn add_reload_veto(&self, veto: &Arc<impl ReloadVeto + 'static>) {
        let veto: Arc<dyn ReloadVeto> = veto.clone();
        self.0.add_veto(Arc::downgrade(&veto));
    }

    /// Returns why the configuration file was rejected, if the last reload failed and the previous
    /// configuration is still in effect.
    #[must_use]
    pub fn config_error(&self) -> Option<String> {
        self.0.config_error()
    }

    /// Returns why the state cannot be written, if the last write failed. While writes fail, published values are
    /// not stored, and a crash of the host would lose them.
    #[must_use]
    pub fn state_error(&self) -> Option<String> {
        self.0.persistence.write_error()
    }

    /// Returns the required sources and sinks that are not ready, for display.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.0.missing(usize::MAX)
    }

    /// Returns the stored revisions of a source, newest first.
    ///
    /// # Errors
    ///
    /// The source does not exist, or the state is disabled or cannot be read.
    pub async fn history(&self, source: &str) -> Result<Vec<HistoryEntry>, OperationError> {
        self.0.history(source).await
    }

    /// Returns the last rejected value of a source.
    ///
    /// # Errors
    ///
    /// The source does not exist, or the state is disabled or cannot be read.
    pub async fn rejected_value(
        &self,
        source: &str,
    ) -> Result<Option<RejectedValue>, OperationError> {
        self.0.last_rejected(source).await
    }

    /// Returns the value of a revision, by default of the current one.
    ///
    /// # Errors
    ///
    /// The source does not exist, or the value is not stored.
    pub async fn value(
        &self,
        source: &str,
        revision: Option<Revision>,
    ) -> Result<(Revision, Snapshot), OperationError> {
        self.0.value(source, revision).await
    }

    /// Starts an immediate read of a source. Returns a message for the operator.
    ///
    /// # Errors
    ///
    /// The source does not exist or has ended.
    pub fn reload(&self, source: &str) -> Result<String, OperationError> {
        self.0.reload_source(source)
    }

    /// Rolls a source back: publishes the value of the earlier revision `to` again, and pins the source to it.
    /// By default, `to` is the newest older stored revision with another value than the current revision. If the
    /// source is pinned, the pinned revision counts as the current one, so that repeated rollbacks go further back.
    /// Returns a message for the operator.
    ///
    /// # Errors
    ///
    /// The source or the revision does not exist, or the source has ended.
    pub async fn rollback(
        &self,
        source: &str,
        to: Option<Revision>,
    ) -> Result<String, OperationError> {
        let (reconciler, source) = (Arc::clone(&self.0), source.to_owned());
        run_to_completion(async move { reconciler.rollback(&source, to).await }).await
    }

    /// Removes the pin of a source, so that it publishes new values again. Returns a message for the
    /// operator.
    ///
    /// # Errors
    ///
    /// The source does not exist.
    pub async fn resume(&self, source: &str) -> Result<String, OperationError> {
        let (reconciler, source) = (Arc::clone(&self.0), source.to_owned());
        run_to_completion(async move { reconciler.resume(&source).await }).await
    }
}

/// Runs an operation as a task, so that it completes even if the caller drops the future. An operation that
/// stops half-way would leave the state store and the published value inconsistent.
async fn run_to_completion(
    operation: impl Future<Output = Result<String, OperationError>> + Send + 'static,
) -> Result<String, OperationError> {
    let result = tokio::spawn(operation).await;
    result.unwrap_or_else(|error| Err(OperationError::Failed(error.to_string())))
}

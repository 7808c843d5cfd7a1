//! Operations on a running host: status, history, reload, rollback and resume.

use crate::{
    managed_source::{ManagedSource, RETRY_INTERVAL},
    operation_error::OperationError,
    reconciler::Reconciler,
};
use reloader_api_types::{HistoryEntry, RejectedValue, SourceStatus};
use reloader_engine::types::{Revision, Snapshot, SourceName, Value as _};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Time limit for storing and publishing the value of a rollback.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(30);

impl Reconciler {
    /// Returns the status of all sources, ordered by name.
    pub(crate) fn status(&self) -> Vec<SourceStatus> {
        self.sources().iter().map(|source| source.status(&self.persistence)).collect()
    }

    /// Returns the stored revisions of a source, newest first.
    pub(crate) async fn history(&self, name: &str) -> Result<Vec<HistoryEntry>, OperationError> {
        let source = self.find(name)?;
        self.persistence.history(source.source.name()).await
    }

    /// Returns the last rejected value of a source.
    pub(crate) async fn last_rejected(
        &self,
        name: &str,
    ) -> Result<Option<RejectedValue>, OperationError> {
        let source = self.find(name)?;
        self.persistence.last_rejected(source.source.name()).await
    }

    /// Returns the value of a revision, or the current value.
    pub(crate) async fn value(
        &self,
        name: &str,
        revision: Option<Revision>,
    ) -> Result<(Revision, Snapshot), OperationError> {
        let source = self.find(name)?;
        let state = source.source.subscribe().state();
        let wanted = revision.unwrap_or(state.revision);
        let value = match state.value {
            Some(value) if wanted == state.revision => value,
            _ => self.persistence.value(source.source.name(), wanted).await?,
        };
        Ok((wanted, value))
    }

    /// Starts an immediate read of a source. Returns a message for the operator without waiting for the read.
    pub(crate) fn reload_source(&self, name: &str) -> Result<String, OperationError> {
        let source = self.find(name)?;
        if let Some(reason) = source.end_reason() {
            let hint = "hint: change the configuration of the source to restart it";
            return Err(OperationError::Conflict(format!("{reason}; {hint}")));
        }
        source.source.reload();
        Ok(match source.rollback_reason() {
            None => format!("refreshing `{name}`"),
            Some(reason) => format!(
                "refreshing `{name}` with its previous plugin and settings; the update to the new ones failed and \
                 is retried every {}: {reason}",
                humantime::format_duration(RETRY_INTERVAL)
            ),
        })
    }

    /// Removes the pin of a source, so that its values are published again. Returns a message for the operator.
    pub(crate) async fn resume(&self, name: &str) -> Result<String, OperationError> {
        let source = self.find(name)?;
        let _guard = source.pin_lock.lock().await;
        if self.persistence.pinned(source.source.name()).is_none() {
            return Ok(format!("`{name}` is not pinned"));
        }
        self.persistence.unpin(source.source.name());
        source.source.unpin().await;
        self.notifier.source_changed(source.source.name());
        Ok(format!("`{name}` is no longer pinned"))
    }

    /// Rolls a source back: publishes the value of the earlier revision `to` again, and pins the source to it.
    /// By default, `to` is the newest older stored revision with another value than the current revision. If the
    /// source is pinned, the pinned revision counts as the current one, so that repeated rollbacks go further back.
    pub(crate) async fn rollback(
        &self,
        name: &str,
        to: Option<Revision>,
    ) -> Result<String, OperationError> {
        let source: Arc<ManagedSource> = self.find(name)?;
        let _guard = source.pin_lock.lock().await;
        let name = source.source.name();
        let state = source.source.subscribe().state();
        let to: Revision = match to {
            Some(to) => to,
            None => self.persistence.previous_revision(name, state.revision).await?,
        };
        let value = self.persistence.value(name, to).await?;
        if let Some(reason) = source.end_reason() {
            return Err(OperationError::Conflict(format!("cannot roll back: {reason}")));
        }
        let is_published = state.value.is_some_and(|current| current.same_value(&value));
        self.persistence.pin(name, to, &value, is_published);
        self.notifier.source_changed(name);
        let mut reader = source.source.subscribe();
        source.source.pin(value.clone()).await;
        // Waits for the publication: the driver publishes the value only after the state store has written it, or has
        // reported that it cannot.
        let published = async {
            while !reader.state().value.is_some_and(|current| current.same_value(&value)) {
                if reader.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        match timeout(ROLLBACK_TIMEOUT, published).await {
            Ok(true) => {}
            Ok(false) => {
                let message = format!("source `{name}` ended during the rollback");
                return Err(OperationError::Conflict(message));
            }
            Err(_) => {
                return Err(OperationError::Failed(format!(
                    "source `{name}` has not published revision {to} within {}; the rollback is still in \
                     progress",
                    humantime::format_duration(ROLLBACK_TIMEOUT)
                )));
            }
        }
        Ok(format!(
            "`{name}` rolled back to revision {to} and pinned; undo with `{} resume {name}`",
            reloader_util::program_name::get()
        ))
    }

    fn find(&self, name: &str) -> Result<Arc<ManagedSource>, OperationError> {
        self.source(&SourceName::new(name))
            .ok_or_else(|| OperationError::NotFound(format!("source `{name}` not found")))
    }
}

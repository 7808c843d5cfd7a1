//! Queries of the state store for the operator: history, earlier values, and the last rejected value.

use crate::{operation_error::OperationError, state_persistence::StatePersistence};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reloader_api_types::{HistoryEntry, RejectedValue};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_state::{ReadError, RevisionEntry, State};

impl StatePersistence {
    /// Returns the stored revisions of a source, newest first.
    pub(crate) async fn history(
        &self,
        source: &SourceName,
    ) -> Result<Vec<HistoryEntry>, OperationError> {
        let entries = self.entries(source).await?;
        let pinned = self.pinned(source);
        Ok(entries
            .into_iter()
            .map(|entry| HistoryEntry {
                revision: entry.revision.get(),
                at: entry.at,
                event: entry.event.to_string(),
                pinned: pinned == Some(entry.revision),
                sha256: entry.digest.map(|digest| digest.to_string()),
                size: Some(entry.size),
                media_type: entry.media_type.map(|media_type| media_type.to_string()),
                stored: entry.is_stored,
            })
            .collect())
    }

    /// Returns the last rejected value of a source.
    pub(crate) async fn last_rejected(
        &self,
        source: &SourceName,
    ) -> Result<Option<RejectedValue>, OperationError> {
        let source = source.clone();
        let rejected = self.query(move |state| state.last_rejection(&source)).await?;
        Ok(rejected.map(|rejected| RejectedValue {
            at: rejected.at,
            reason: rejected.reason,
            sha256: Some(rejected.digest.to_string()),
            size: Some(rejected.size),
            media_type: rejected.media_type.map(|media_type| media_type.to_string()),
            content: rejected.content.map(|content| STANDARD.encode(content)),
        }))
    }

    async fn entries(&self, source: &SourceName) -> Result<Vec<RevisionEntry>, OperationError> {
        let source = source.clone();
        self.query(move |state| state.history(&source)).await
    }

    /// Returns the target of a rollback without an explicit revision: the newest stored revision that has a
    /// different value and is older than `current`. If the source is pinned, the pinned revision counts instead
    /// of `current`, so that repeated rollbacks go further back.
    pub(crate) async fn previous_revision(
        &self,
        source: &SourceName,
        current: Revision,
    ) -> Result<Revision, OperationError> {
        let current = self.pinned(source).unwrap_or(current);
        let entries = self.entries(source).await?;
        let digest = entries.iter().find(|entry| entry.revision == current);
        let digest = digest.and_then(|entry| entry.digest);
        let older = entries.iter().filter(|entry| entry.revision < current && entry.is_stored);
        let mut other = older.filter(|entry| entry.digest.is_some() && entry.digest != digest);
        other.next().map(|entry| entry.revision).ok_or_else(|| {
            let why = match self.is_secret(source) {
                true => "stores no values (`store = false`)".into(),
                false => {
                    let program = reloader_util::program_name::get();
                    format!(
                        "has no earlier value; hint: `{program} history {source}` lists its revisions"
                    )
                }
            };
            OperationError::Conflict(format!("source `{source}` {why}"))
        })
    }

    /// Reads the value of one revision of a source from the state store.
    pub(crate) async fn value(
        &self,
        source: &SourceName,
        revision: Revision,
    ) -> Result<Snapshot, OperationError> {
        let name = source.clone();
        let value = self.query(move |state| state.value(&name, revision)).await?;
        value.ok_or_else(|| {
            OperationError::NotFound(match self.is_secret(source) {
                true => format!("source `{source}` stores no values (`store = false`)"),
                false => format!(
                    "source `{source}` has no stored value for revision {revision}; \
                     hint: `{} history {source}` lists its revisions",
                    reloader_util::program_name::get()
                ),
            })
        })
    }

    /// Runs a query of the state store on another thread, with a deadline.
    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&State) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, OperationError> {
        let disabled = "no state is stored: `[state]` has `enabled = false`";
        let state = self.state.as_ref();
        let state = state.ok_or_else(|| OperationError::Conflict(disabled.into()))?;
        let result = self.read(state, query).await;
        result.map_err(|error| OperationError::Failed(error.to_string()))
    }
}

//! What a running host says, and does, when it is asked.

use crate::{managed_source::Unit, reconciler::Machine, reload_triggers::AGAIN};
use reloader_api_types::{HistoryEntry, RefusedValue, SourceStatus};
use reloader_engine::types::{Revision, Snapshot, SourceName, Value as _};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// What is gone back to is there within so long.
const PUBLISHED: Duration = Duration::from_secs(30);

/// Why a running host does not do what it is asked, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no such source, or it has no such revision.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be done as things are.
    #[error("{0}")]
    Conflict(String),
    /// It should have worked.
    #[error("{0}")]
    Failed(String),
}

impl Machine {
    /// How all sources are, by their names.
    pub(crate) fn status(&self) -> Vec<SourceStatus> {
        self.units().iter().map(|unit| unit.status(&self.memory)).collect()
    }

    /// The values that a source had, the newest first.
    pub(crate) async fn history(&self, source: &str) -> Result<Vec<HistoryEntry>, AnswerError> {
        let unit = self.find(source)?;
        self.memory.history(unit.source.name()).await
    }

    /// What was not let through last of a source.
    pub(crate) async fn refused(&self, source: &str) -> Result<Option<RefusedValue>, AnswerError> {
        let unit = self.find(source)?;
        self.memory.refused(unit.source.name()).await
    }

    /// The value of a revision, or the present one.
    pub(crate) async fn value(
        &self,
        source: &str,
        revision: Option<Revision>,
    ) -> Result<(Revision, Snapshot), AnswerError> {
        let unit = self.find(source)?;
        let state = unit.source.subscribe().state();
        let wanted = revision.unwrap_or(state.revision);
        let value = match state.value {
            Some(value) if wanted == state.revision => value,
            _ => self.memory.value(unit.source.name(), wanted).await?,
        };
        Ok((wanted, value))
    }

    /// Has a source read now.
    pub(crate) fn reload_source(&self, source: &str) -> Result<String, AnswerError> {
        let unit = self.find(source)?;
        if let Some(end) = unit.end() {
            let hint = "it is read again when its configuration changes";
            return Err(AnswerError::Conflict(format!("{end}; {hint}")));
        }
        unit.source.reload();
        Ok(match unit.reverted() {
            None => format!("source `{source}` is read now"),
            Some(why) => format!(
                "source `{source}` is read now as it was: what is new in the configuration cannot be used \
                 yet, and is tried again every {}: {why}",
                humantime::format_duration(AGAIN)
            ),
        })
    }

    /// Follows a source again.
    pub(crate) async fn resume(&self, source: &str) -> Result<String, AnswerError> {
        let unit = self.find(source)?;
        let _alone = unit.pinning.lock().await;
        if self.memory.pinned(unit.source.name()).is_none() {
            return Ok(format!("source `{source}` is not pinned: it is followed already"));
        }
        self.memory.unpin(unit.source.name());
        unit.source.unpin().await;
        Ok(format!("source `{source}` is followed again"))
    }

    /// Goes back to the value of a revision, or of the one before, and stays there.
    pub(crate) async fn rollback(
        &self,
        source: &str,
        to: Option<Revision>,
    ) -> Result<String, AnswerError> {
        let unit: Arc<Unit> = self.find(source)?;
        let _alone = unit.pinning.lock().await;
        let name = unit.source.name();
        let state = unit.source.subscribe().state();
        let to: Revision = match to {
            Some(to) => to,
            None => self.memory.before(name, state.revision).await?,
        };
        let value = self.memory.value(name, to).await?;
        if let Some(end) = unit.end() {
            return Err(AnswerError::Conflict(format!("nothing is published any more: {end}")));
        }
        let is_published = state.value.is_some_and(|present| present.same_value(&value));
        self.memory.pin(name, to, &value, is_published);
        let mut reader = unit.source.subscribe();
        unit.source.pin(value.clone()).await;
        // It is published as soon as no crash forgets it.
        let is_published = async {
            while !reader.state().value.is_some_and(|present| present.same_value(&value)) {
                if reader.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        match timeout(PUBLISHED, is_published).await {
            Ok(true) => {}
            Ok(false) => {
                return Err(AnswerError::Conflict(format!("source `{name}` has ended meanwhile")));
            }
            Err(_) => {
                return Err(AnswerError::Failed(format!(
                    "source `{name}` has not published it yet, and still may"
                )));
            }
        }
        Ok(format!(
            "source `{name}` has the value of revision {to} again, and keeps it until `host resume {name}`"
        ))
    }

    fn find(&self, name: &str) -> Result<Arc<Unit>, AnswerError> {
        self.unit(&SourceName::new(name))
            .ok_or_else(|| AnswerError::Unknown(format!("there is no source `{name}`")))
    }
}

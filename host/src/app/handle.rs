//! A running configuration, seen and told things from elsewhere in the same program.

use super::{
    answer::AnswerError,
    config::Config,
    control::{HistoryEntry, RefusedValue, SourceStatus},
    machine::Machine,
};
use crate::{
    model::{Revision, Snapshot, SourceName},
    store::Reader,
};
use std::sync::Arc;
use tokio::sync::watch;

/// A running configuration: how its sources are, their values, and what can be asked of them. Cheap to
/// clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Machine>);

/// What a host is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It keeps its sources current.
    #[default]
    Running,
    /// Besides, it reads its configuration again.
    Reloading,
    /// It ends.
    Stopping,
}

impl Handle {
    /// What the host is at, from now on.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// How all sources are, by their names.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.0.status()
    }

    /// How a source is, if there is one of this name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<SourceStatus> {
        self.0.unit(&SourceName::new(name)).map(|unit| unit.status(&self.0.memory))
    }

    /// Whether the values of a source may leave the host for those who ask; `None` if there is no such
    /// source.
    #[must_use]
    pub fn is_readable(&self, name: &str) -> Option<bool> {
        self.0.unit(&SourceName::new(name)).map(|unit| unit.prepared().config.readable)
    }

    /// The values of a source, from now on.
    #[must_use]
    pub fn subscribe(&self, name: &str) -> Option<Reader> {
        self.0.unit(&SourceName::new(name)).map(|unit| unit.source.subscribe())
    }

    /// Changes whenever sources come or go.
    #[must_use]
    pub fn roster(&self) -> watch::Receiver<u64> {
        self.0.roster.subscribe()
    }

    /// What the configuration says now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.0.config()
    }

    /// What of all that is required is not where it should be yet.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.0.missing(usize::MAX)
    }

    /// The values that a source had, the newest first.
    ///
    /// # Errors
    ///
    /// When there is no such source, or nothing is remembered.
    pub async fn history(&self, source: &str) -> Result<Vec<HistoryEntry>, AnswerError> {
        self.0.history(source).await
    }

    /// What was not let through last of a source.
    ///
    /// # Errors
    ///
    /// When there is no such source, or nothing is remembered.
    pub async fn refused(&self, source: &str) -> Result<Option<RefusedValue>, AnswerError> {
        self.0.refused(source).await
    }

    /// The value of a revision, or the present one.
    ///
    /// # Errors
    ///
    /// When there is no such source, or its value is not known.
    pub async fn value(
        &self,
        source: &str,
        revision: Option<Revision>,
    ) -> Result<(Revision, Snapshot), AnswerError> {
        self.0.value(source, revision).await
    }

    /// Has a source read now; what was done, for people.
    ///
    /// # Errors
    ///
    /// When there is no such source, or it has ended.
    pub fn reload(&self, source: &str) -> Result<String, AnswerError> {
        self.0.reload_source(source)
    }

    /// Goes back to the value of a revision, or to the one before, and stays there; what was done, for
    /// people.
    ///
    /// # Errors
    ///
    /// When there is no such source or revision, or the source has ended.
    pub async fn rollback(
        &self,
        source: &str,
        to: Option<Revision>,
    ) -> Result<String, AnswerError> {
        self.0.rollback(source, to).await
    }

    /// Follows a source again; what was done, for people.
    ///
    /// # Errors
    ///
    /// When there is no such source.
    pub async fn resume(&self, source: &str) -> Result<String, AnswerError> {
        self.0.resume(source).await
    }
}

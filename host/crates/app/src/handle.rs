//! A running configuration, seen and told things from elsewhere in the same program.

use crate::config::Config;
use crate::{commands::AnswerError, reconciler::Machine, sink_set::SinkCounts};
use reloader_api_types::{
    GroupStatus, HistoryEntry, ListedSource, RefusedValue, SourceDetail, SourceStatus,
};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_source::{
    metrics::Counts,
    provider::Confinement,
    store::{State, Subscription},
};
use std::sync::Arc;
use tokio::sync::watch;

/// A running configuration: how its sources are, their values, and what can be asked of them. Cheap to
/// clone.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Machine>);

/// Checks a new configuration against what cannot change while the process runs, such as bound sockets.
pub trait ReloadCheck: Send + Sync {
    /// Returns what prevents the use of `config`: the path of each such setting in the configuration file,
    /// table by table, and the reason. A configuration with any is rejected, and the present one stays in
    /// use.
    ///
    /// Called on a thread where blocking is allowed.
    fn check(&self, config: &Config) -> Vec<(Vec<String>, String)>;
}

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

/// What a source is and has been through, in numbers.
#[derive(Debug, Clone)]
pub struct SourceCounts {
    /// How it is.
    pub status: SourceStatus,
    /// Whether its values may leave the host for those who ask.
    pub readable: bool,
    /// What it holds.
    pub state: State,
    /// What has happened to it since the host was started.
    pub counts: Counts,
    /// How its plugin is held.
    pub confinement: Confinement,
}

impl Handle {
    /// What the host is at, from now on.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Whether it ends.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.0.phase.borrow() == Phase::Stopping
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

    /// How all sources are, and how often they have changed of late.
    #[must_use]
    pub fn list(&self) -> Vec<ListedSource> {
        self.0.units().iter().map(|unit| unit.listed(&self.0.memory)).collect()
    }

    /// A source in all detail, if there is one of this name.
    #[must_use]
    pub fn detail(&self, name: &str) -> Option<SourceDetail> {
        self.0.unit(&SourceName::new(name)).map(|unit| unit.detail(&self.0.memory))
    }

    /// How what is made of several sources is, by the groups' names.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.0.group_status()
    }

    /// All sources in numbers, by their names. At the end, as they were when it began.
    #[must_use]
    pub fn counts(&self) -> Vec<SourceCounts> {
        self.0.counts()
    }

    /// All sinks in numbers, of sources and then of groups.
    #[must_use]
    pub fn sink_counts(&self) -> Vec<SinkCounts> {
        self.0.sink_counts()
    }

    /// Whether the values of a source may leave the host for those who ask; `None` if there is no such
    /// source.
    #[must_use]
    pub fn is_readable(&self, name: &str) -> Option<bool> {
        self.0.unit(&SourceName::new(name)).map(|unit| unit.prepared().config.readable)
    }

    /// The values of a source, from now on.
    #[must_use]
    pub fn subscribe(&self, name: &str) -> Option<Subscription> {
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

    /// The configuration in use, and each one that takes its place.
    #[must_use]
    pub fn config_changes(&self) -> watch::Receiver<Arc<Config>> {
        self.0.config_changes()
    }

    /// Registers a check that each new configuration has to pass before it is used. The host keeps no
    /// reference: the check applies for as long as the caller keeps `check`.
    pub fn add_reload_check(&self, check: &Arc<impl ReloadCheck + 'static>) {
        let check: Arc<dyn ReloadCheck> = check.clone();
        self.0.add_reload_check(Arc::downgrade(&check));
    }

    /// Why the configuration file cannot be used as it is now, so that the one before still counts.
    #[must_use]
    pub fn config_trouble(&self) -> Option<String> {
        self.0.config_trouble()
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
        let (machine, source) = (Arc::clone(&self.0), source.to_owned());
        done(async move { machine.rollback(&source, to).await }).await
    }

    /// Follows a source again; what was done, for people.
    ///
    /// # Errors
    ///
    /// When there is no such source.
    pub async fn resume(&self, source: &str) -> Result<String, AnswerError> {
        let (machine, source) = (Arc::clone(&self.0), source.to_owned());
        done(async move { machine.resume(&source).await }).await
    }
}

/// What has been begun is done, also when whoever has asked for it does not wait any more: what is remembered
/// and what is published are the same.
async fn done(
    what: impl Future<Output = Result<String, AnswerError>> + Send + 'static,
) -> Result<String, AnswerError> {
    let done = tokio::spawn(what).await;
    done.unwrap_or_else(|error| Err(AnswerError::Failed(error.to_string())))
}

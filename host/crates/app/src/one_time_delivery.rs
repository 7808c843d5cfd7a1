//! One-time delivery (`--once`): waits until each source is up to date and each sink has delivered its value.

use crate::{
    app_handle::Handle, managed_source::ManagedSource, reconciler::Reconciler, sink_set::SinkSet,
};
use reloader_delivery::{SinkState, SinkStatus};
use reloader_engine::types::{Revision, SourceName};
use std::{fmt, time::Duration};
use tokio::time::timeout;

/// Source that is not up to date, or sink that has not delivered the present values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The source or sink, for display: `` source `app` ``.
    pub name: String,
    /// Last error, or the present activity.
    pub reason: String,
    /// Set if it stays unfinished until a value or the configuration changes.
    pub is_final: bool,
}

/// Shows the name and the reason.
impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// Interval at which the status is examined without a change.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

impl Handle {
    /// Waits until all sources are up to date and all sinks have delivered their values, for `limit` at most. Returns
    /// what is unfinished then; returns earlier if the rest can never finish.
    ///
    /// A source with `required = false` that fails does not count, and neither does a sink that waits for it.
    pub async fn delivered_once(&self, limit: Duration) -> Vec<Unfinished> {
        let changes = self.0.notifier.subscribe_with_groups();
        let finished = timeout(limit, async {
            let mut was_finished = false;
            loop {
                // A read without a value changes no status, so the status is also examined without a change.
                let _ = timeout(RECHECK_INTERVAL, changes.wait()).await;
                // Taken before the status is read, so that no change is missed.
                let _ = changes.take();
                let unfinished = self.unfinished();
                let is_finished = unfinished.iter().all(|it| it.is_final);
                // Ends only after two successive checks that find everything finished: a value that was read is published a
                // moment later, so one check may miss it.
                if is_finished && was_finished {
                    return unfinished;
                }
                was_finished = is_finished;
            }
        });
        finished.await.unwrap_or_else(|_| self.unfinished())
    }

    /// Returns the sources that are not up to date, and the sinks that have not delivered the present values.
    fn unfinished(&self) -> Vec<Unfinished> {
        let reconciler: &Reconciler = &self.0;
        let mut all = Vec::new();
        for source in reconciler.sources() {
            let name = source.source.name();
            let state = source.source.subscribe().state();
            // An optional source that has been read without a value has nothing to deliver.
            let is_skipped = !source.prepared().config.required
                && state.value.is_none()
                && (source.counters.read().reads.count() > 0 || source.has_ended());
            match unfinished_source(&source, reconciler) {
                Some(_) if is_skipped => {}
                Some(unfinished) if source.prepared().config.required || state.value.is_none() => {
                    all.push(unfinished);
                }
                _ => {
                    let present = [(name.clone(), present_revision(&source))];
                    all.extend(unfinished_sinks(&source.sinks, name.as_str(), &present));
                }
            }
        }
        let groups = reconciler.groups.lock();
        for (group, sinks) in groups.values() {
            let members = group.sources.iter().filter_map(|name| reconciler.source(name));
            let members: Vec<_> = members.collect();
            let is_missing = |source: &ManagedSource| {
                let state = source.source.subscribe().state();
                source.prepared().config.required && state.revision == Revision::default()
            };
            // The missing source is listed itself.
            if members.iter().any(|source| is_missing(source)) {
                continue;
            }
            let present = members.iter().map(|it| (it.source.name().clone(), present_revision(it)));
            let owner = format!("group/{}", group.name);
            all.extend(unfinished_sinks(sinks, &owner, &present.collect::<Vec<_>>()));
        }
        all
    }
}

/// Returns the revision that the sinks have to deliver; `None` if the source has removed its value, which a sink may
/// ignore.
fn present_revision(source: &ManagedSource) -> Option<Revision> {
    let state = source.source.subscribe().state();
    state.value.is_some().then_some(state.revision)
}

fn unfinished_source(source: &ManagedSource, reconciler: &Reconciler) -> Option<Unfinished> {
    let status = source.status(&reconciler.persistence);
    let is_up_to_date = matches!(status.state.as_str(), "current" | "removed");
    if is_up_to_date && status.error.is_none() {
        return None;
    }
    let reason = status.error.unwrap_or_else(|| match status.state.as_str() {
        "waiting" => "no value yet".into(),
        state => format!("the value is {state}"),
    });
    let name = format!("source `{}`", status.name);
    Some(Unfinished { name, reason, is_final: source.has_ended() })
}

/// Returns the sinks of `owner` that have not delivered the revisions `present`.
fn unfinished_sinks(
    sinks: &SinkSet,
    owner: &str,
    present: &[(SourceName, Option<Revision>)],
) -> Vec<Unfinished> {
    let is_delivered = |status: &SinkStatus| {
        let has = |source: &SourceName, revision: Revision| {
            status.revisions.iter().any(|(name, known)| name == source && *known >= revision)
        };
        present.iter().all(|(name, revision)| revision.is_none_or(|revision| has(name, revision)))
    };
    let unfinished = |name: &str, status: &SinkStatus| {
        if status.failing.is_none() && is_delivered(status) {
            return None;
        }
        let reason = status.failing.as_deref().unwrap_or("not delivered yet").to_owned();
        let is_final = status.state == SinkState::GivenUp;
        Some(Unfinished { name: format!("sink `{owner}/{name}`"), reason, is_final })
    };
    sinks.filter_map_status(unfinished)
}

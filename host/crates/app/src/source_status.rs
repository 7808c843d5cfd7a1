//! Status of a managed source, as reported by the API, the command line and the metrics.

use crate::{
    managed_source::ManagedSource,
    sink_set::REASON_ONLY_LOGGED,
    source_and_sink_counters::{SinkCounts, SourceCounts},
    state_persistence::StatePersistence,
};
use reloader_api_types::{DeniedAccess, ListedSource, SourceCounters, SourceDetail, SourceStatus};
use reloader_source::{latest_value::SourceState, metrics::Counts, provider::Confinement};
use std::time::Instant;

impl ManagedSource {
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
        // If clients may not read the values, the reason of a rejection is omitted: it may reveal the length or a line
        // of a value.
        let is_secret = !config.readable;
        let rejected = state.rejected.as_ref().map(|rejected| match is_secret {
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
            error: ended.or(rejected).or(failing).or(stale).or_else(|| self.rollback_reason()),
            sinks: self.sinks.report(is_secret),
        }
    }

    /// Returns the status, and the changes per minute in the last hour.
    pub(crate) fn listed(&self, persistence: &StatePersistence) -> ListedSource {
        let activity = self.changes.read(Instant::now());
        ListedSource { status: self.status(persistence), activity }
    }

    /// Returns the status and the counters of this source.
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

    /// Returns the counters of the sinks of this source.
    pub(crate) fn sink_counts(&self) -> Vec<SinkCounts> {
        self.sinks.counts(self.source.name().as_str())
    }

    fn confinement(&self) -> Confinement {
        self.provider().confinement().unwrap_or_default()
    }

    /// Returns all details: status, settings, counters, grants and denials.
    pub(crate) fn detail(&self, persistence: &StatePersistence) -> SourceDetail {
        let SourceCounts { status, readable, state, counts, confinement } =
            self.counts(persistence);
        let prepared = self.prepared();
        let strategy = prepared.config.strategy;
        let strategy = strategy.unwrap_or_else(|| prepared.plugin.default_strategy());
        let value = state.value.filter(|_| readable);
        let denied = confinement.denied.into_iter();
        SourceDetail {
            status,
            strategy: strategy.to_string(),
            readable,
            media_type: value
                .as_ref()
                .and_then(|value| value.media_type.as_deref().map(Into::into)),
            size: value.map(|value| value.content.len() as u64),
            counters: counters(&counts, confinement.memory),
            granted: confinement.granted,
            denied: denied
                .map(|(description, count)| DeniedAccess { description, count })
                .collect(),
            activity: self.changes.read(Instant::now()),
        }
    }
}

fn counters(counts: &Counts, memory: usize) -> SourceCounters {
    let all = |failures: &[(_, u64)]| failures.iter().map(|(_, count)| count).sum();
    let crashes = [&counts.read_failures, &counts.watch_failures].into_iter().flatten();
    let crashes = crashes.filter(|(kind, _)| *kind == "crashed").map(|(_, count)| count).sum();
    let reactions = counts.reactions.count();
    SourceCounters {
        changes: counts.changes,
        removals: counts.removals,
        rejected_values: counts.rejected_values,
        reads: counts.reads.count(),
        read_failures: all(&counts.read_failures),
        watches: counts.watches,
        watch_failures: all(&counts.watch_failures),
        crashes,
        denied_accesses: counts.denied_accesses,
        cpu_seconds: counts.cpu.as_secs_f64(),
        memory: memory as u64,
        reaction_seconds: (reactions > 0)
            .then(|| counts.reactions.sum.as_secs_f64() / reactions as f64),
    }
}

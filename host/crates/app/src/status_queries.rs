//! Queries of the running sources and groups: readiness, status and counters.

use crate::{
    config::GroupConfig,
    managed_source::ManagedSource,
    reconciler::{GROUP_PREFIX, Reconciler, group_state_key},
    sink_set::SinkSet,
    source_and_sink_counters::{SinkCounts, SourceCounts},
};
use reloader_api_types::GroupStatus;
use reloader_engine::types::SourceName;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

impl Reconciler {
    /// Returns the names of all sources, and the keys of all groups in the state store.
    pub(crate) fn names(&self) -> Vec<SourceName> {
        let mut names = self.source_names();
        names.extend(self.groups.lock().keys().map(|group| group_state_key(group)));
        names
    }

    /// Returns whether a source, or a group by its key in the state store, is required and not ready.
    pub(crate) fn is_missing(&self, name: &SourceName) -> bool {
        if let Some(source) = self.source(name) {
            return source.prepared().config.required && source.is_missing();
        }
        let Some(group) = name.as_str().strip_prefix(GROUP_PREFIX) else { return false };
        let (sources, groups) = (self.sources.lock(), self.groups.lock());
        groups
            .get(group)
            .is_some_and(|(group, sinks)| is_required_group(group, &sources) && sinks.is_missing())
    }

    /// Returns up to `limit` required sources and sinks that are not ready, for display.
    pub(crate) fn missing(&self, limit: usize) -> Vec<String> {
        let (sources, groups) = (self.sources.lock(), self.groups.lock());
        let of_sources = sources.values().filter(|source| source.prepared().config.required);
        let of_sources = of_sources.flat_map(|source| source.missing());
        let of_groups = groups.values().filter(|(group, _)| is_required_group(group, &sources));
        let of_groups = of_groups.flat_map(|(group, sinks)| {
            let sinks = sinks.missing().into_iter();
            sinks.map(|sink| format!("sink `{}/{sink}`", group.name))
        });
        of_sources.chain(of_groups).take(limit).collect()
    }

    /// Returns the status of all groups, ordered by name.
    pub(crate) fn group_status(&self) -> Vec<GroupStatus> {
        let sources = self.sources().into_iter();
        let secret = sources.filter(|source| !source.prepared().config.readable);
        let secret: HashSet<_> = secret.map(|source| source.source.name().clone()).collect();
        let groups = self.groups.lock();
        let status = |(group, sinks): &(GroupConfig, Arc<SinkSet>)| GroupStatus {
            name: group.name.clone(),
            sources: group.sources.iter().map(ToString::to_string).collect(),
            sinks: sinks.report(group.sources.iter().any(|name| secret.contains(name))),
        };
        groups.values().map(status).collect()
    }

    /// Returns the counters of all sources. During the shutdown, returns the counters as they were when the sources
    /// began to stop.
    pub(crate) fn counts(&self) -> Vec<SourceCounts> {
        if let Some((sources, _)) = self.final_counts.get() {
            return sources.clone();
        }
        self.sources().iter().map(|source| source.counts(&self.persistence)).collect()
    }

    /// Returns whether the configuration has groups.
    pub(crate) fn has_groups(&self) -> bool {
        !self.groups.lock().is_empty()
    }

    /// Returns the counters of all sinks. During the shutdown, returns the counters as they were when the sources
    /// began to stop.
    pub(crate) fn sink_counts(&self) -> Vec<SinkCounts> {
        if let Some((_, sinks)) = self.final_counts.get() {
            return sinks.clone();
        }
        let sources = self.sources();
        let mut counts: Vec<_> = sources.iter().flat_map(|source| source.sink_counts()).collect();
        let groups = self.groups.lock();
        counts.extend(groups.values().flat_map(|(group, sinks)| sinks.counts(&group.name)));
        counts
    }
}

/// Returns whether the command waits for a group: it does if all running sources of the group are required.
fn is_required_group(
    group: &GroupConfig,
    sources: &BTreeMap<SourceName, Arc<ManagedSource>>,
) -> bool {
    let mut members = group.sources.iter().map(|name| sources.get(name));
    members.all(|source| source.is_none_or(|source| source.prepared().config.required))
}

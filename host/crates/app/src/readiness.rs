//! Readiness: which required sources and sinks are not ready, which sources have ended, and which source updates
//! failed. Evaluates only the sources and groups that report a status change, instead of polling all of them.

use crate::{
    reconciler::Reconciler,
    status_changes::{ChangedSources, StatusChanges},
};
use reloader_engine::types::SourceName;
use std::collections::BTreeSet;

/// Names of the sources and groups that are not ready, have ended, or failed to update.
pub(crate) struct Readiness {
    changes: StatusChanges,
    /// Required sources without a value, and required sources and groups with a sink that has not delivered yet.
    missing: BTreeSet<SourceName>,
    /// Sources that ended because of a permanent failure.
    ended: BTreeSet<SourceName>,
    /// Sources whose last update failed: they run with the plugin and settings from before it.
    rolled_back: BTreeSet<SourceName>,
}

impl Readiness {
    /// Evaluates all sources and groups, and follows their changes from now on.
    pub(crate) fn new(reconciler: &Reconciler) -> Self {
        let mut readiness = Self {
            changes: reconciler.notifier.subscribe_with_groups(),
            missing: BTreeSet::new(),
            ended: BTreeSet::new(),
            rolled_back: BTreeSet::new(),
        };
        readiness.update(reconciler);
        readiness
    }

    /// Waits for status changes, and evaluates the changed sources and groups. Cancel-safe.
    pub(crate) async fn changed(&mut self, reconciler: &Reconciler) {
        self.changes.wait().await;
        self.update(reconciler);
    }

    fn update(&mut self, reconciler: &Reconciler) {
        match self.changes.take() {
            ChangedSources::Named(names) => self.evaluate(reconciler, names),
            ChangedSources::All => {
                for set in [&mut self.missing, &mut self.ended, &mut self.rolled_back] {
                    set.clear();
                }
                self.evaluate(reconciler, reconciler.names());
            }
        }
    }

    fn evaluate(&mut self, reconciler: &Reconciler, names: impl IntoIterator<Item = SourceName>) {
        for name in names {
            let source = reconciler.source(&name);
            let source = source.as_deref();
            let sets = [
                (&mut self.missing, reconciler.is_missing(&name)),
                (&mut self.ended, source.is_some_and(|source| source.has_ended())),
                (&mut self.rolled_back, source.is_some_and(|source| source.is_rolled_back())),
            ];
            for (set, is_member) in sets {
                if is_member {
                    set.insert(name.clone());
                } else {
                    set.remove(&name);
                }
            }
        }
        reconciler.is_ready.send_if_modified(|is_ready| {
            let was_ready = std::mem::replace(is_ready, self.missing.is_empty());
            was_ready != *is_ready
        });
    }

    /// Returns whether all required sources and sinks are ready.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Returns whether an update of a source failed and must be retried.
    pub(crate) fn has_rolled_back(&self) -> bool {
        !self.rolled_back.is_empty()
    }

    /// Returns the permanent failure that ends the host: all sources have ended, or the command cannot start
    /// because a required source ended before it was ready.
    pub(crate) fn permanent_failure(
        &self,
        reconciler: &Reconciler,
        starts_command: bool,
    ) -> Option<String> {
        let reason = |name: &SourceName| reconciler.source(name)?.end_reason();
        if starts_command
            && let Some(reason) = self.ended.intersection(&self.missing).find_map(reason)
        {
            return Some(format!("the command cannot be started: {reason}"));
        }
        let sources = reconciler.source_count();
        let last = self.ended.last().filter(|_| self.ended.len() == sources)?;
        let last = reason(last)?;
        // A source in `ended` may have been replaced since the last evaluation.
        let has_ended = |name| reconciler.source(name).is_some_and(|source| source.has_ended());
        if !self.ended.iter().all(has_ended) {
            return None;
        }
        Some(match sources {
            1 => last,
            _ => format!("all sources have ended; for example, {last}"),
        })
    }
}

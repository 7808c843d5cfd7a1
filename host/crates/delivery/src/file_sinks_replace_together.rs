//! File sinks of one source or group, of which at least one has a check: they prepare the new contents, and replace their
//! files when all of them are prepared.

use crate::{
    delivery_values::{Part, Update},
    sink_status::SinkStatus,
};
use reloader_engine::types::{Revision, SourceName};
use std::future::pending;
use tokio::sync::watch;

/// The other file sinks, for which the worker of a file sink waits before it replaces its file.
#[derive(Debug, Default)]
pub(crate) struct Peers(Vec<watch::Receiver<SinkStatus>>);

impl Peers {
    pub(crate) fn new(all: Vec<watch::Receiver<SinkStatus>>) -> Self {
        Self(all)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until all other sinks have prepared or delivered exactly the values of `update`. Never returns if a sink
    /// stops before that. A sink that already has newer values does not count: this sink gets them as well.
    pub(crate) async fn prepared(&mut self, update: &Update) {
        for peer in &mut self.0 {
            let prepared = peer.wait_for(|status| {
                has_revisions(&status.prepared, update) || has_revisions(&status.revisions, update)
            });
            if prepared.await.is_err() {
                pending::<()>().await;
            }
        }
    }
}

/// Returns whether the revisions are those of `update`. Removals are ignored, because a sink may keep the last value
/// (`on-removed`).
fn has_revisions(known: &[(SourceName, Revision)], update: &Update) -> bool {
    let is_known = |part: &Part| {
        known.iter().any(|(source, revision)| *source == part.source && *revision == part.revision)
    };
    update.parts().iter().all(|part| part.value.is_none() || is_known(part))
}

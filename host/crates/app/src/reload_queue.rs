//! Queue of reloads, which run one at a time.

use crate::reconciler::Reconciler;
use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};

/// Reason for a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReloadTrigger {
    /// The configuration file changed, or the operator requested a reload.
    Config,
    /// The file of the named plugin changed.
    Plugin(String),
    /// Periodic retry of source updates that were rolled back.
    Retry,
}

/// Queue of reloads.
#[derive(Default)]
pub(crate) struct ReloadQueue {
    queued: VecDeque<ReloadTrigger>,
    running: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl ReloadQueue {
    /// Adds a reload, unless the same one is queued.
    pub(crate) fn add(&mut self, trigger: ReloadTrigger) {
        if trigger == ReloadTrigger::Config {
            // A reload of the configuration covers all others, and replaces one that runs.
            *self = Self::default();
        }
        // A queued reload reads the newest state when it starts.
        if !self.queued.contains(&trigger) {
            self.queued.push_back(trigger);
        }
    }

    /// Runs the current or the next reload to its end. Never completes if the queue is empty.
    pub(crate) async fn run_next(&mut self, reconciler: &Arc<Reconciler>) {
        if self.running.is_none() {
            let next = self.queued.pop_front();
            self.running = next.map(|next| Box::pin(reload(Arc::clone(reconciler), next)) as _);
        }
        match &mut self.running {
            Some(running) => running.await,
            None => pending().await,
        }
        self.running = None;
    }
}

async fn reload(reconciler: Arc<Reconciler>, trigger: ReloadTrigger) {
    match trigger {
        ReloadTrigger::Config => reconciler.reload().await,
        ReloadTrigger::Plugin(path) => reconciler.update_plugin(&path).await,
        ReloadTrigger::Retry => reconciler.retry_rolled_back().await,
    }
}

//! Queue of reloads, which run one at a time.

use crate::reconciler::Reconciler;
use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};

/// Reason for a reload of the configuration or of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReloadTrigger {
    /// The configuration file changed, or the operator requested a reload.
    Config,
    /// The file of the named plugin changed.
    Plugin(String),
    /// Periodic retry of failed source updates, and of a reload that was cancelled or could not start a source.
    Retry,
}

/// Queue of reloads, of which one runs at a time.
#[derive(Default)]
pub(crate) struct ReloadQueue {
    queued: VecDeque<ReloadTrigger>,
    running: Option<(ReloadTrigger, RunningReload)>,
}

type RunningReload = Pin<Box<dyn Future<Output = ()> + Send>>;

impl ReloadQueue {
    /// Adds a reload, unless it is queued already. A reload of the configuration goes first, and cancels the running
    /// reload.
    pub(crate) fn add(&mut self, trigger: ReloadTrigger) {
        if trigger == ReloadTrigger::Config {
            // Plugin updates stay queued, including a cancelled one: they are still needed if the new configuration is
            // rejected.
            let interrupted = self.running.take().map(|(interrupted, _)| interrupted);
            let others = interrupted.into_iter().chain(self.queued.drain(..));
            let plugins = others.filter(|other| matches!(other, ReloadTrigger::Plugin(_)));
            self.queued = [trigger].into_iter().chain(plugins).collect();
        } else if !self.queued.contains(&trigger) {
            // A second entry is not needed: a queued reload reads the newest files when it starts.
            self.queued.push_back(trigger);
        }
    }

    /// Returns whether no reload runs or is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_none() && self.queued.is_empty()
    }

    /// Runs the current or the next reload to its end. Never completes if the queue is empty.
    pub(crate) async fn run_next(&mut self, reconciler: &Arc<Reconciler>) {
        if self.running.is_none() {
            let next = self.queued.pop_front();
            self.running = next.map(|next| {
                let running = reload(Arc::clone(reconciler), next.clone());
                (next, Box::pin(running) as _)
            });
        }
        match &mut self.running {
            Some((_, running)) => running.await,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload_queue::ReloadTrigger::{Config, Plugin, Retry};
    use std::future;

    fn queue(queued: &[ReloadTrigger], running: Option<ReloadTrigger>) -> ReloadQueue {
        let running = running.map(|trigger| (trigger, Box::pin(future::pending()) as _));
        ReloadQueue { queued: queued.iter().cloned().collect(), running }
    }

    fn plugin(path: &str) -> ReloadTrigger {
        Plugin(path.into())
    }

    /// A reload of the configuration keeps the plugin updates, which are needed if the configuration is rejected. It
    /// replaces queued retries and reloads.
    #[test]
    fn plugin_updates_follow_configuration() {
        let mut reloads = queue(&[plugin("b"), Retry, Config], Some(plugin("a")));
        reloads.add(Config);
        assert_eq!(reloads.queued, [Config, plugin("a"), plugin("b")]);
        assert!(reloads.running.is_none(), "replaced");
        reloads.add(plugin("b"));
        assert_eq!(reloads.queued, [Config, plugin("a"), plugin("b")], "no duplicates");
    }

    #[test]
    fn running_reload_is_not_restarted_by_plugin() {
        let mut reloads = queue(&[], Some(Config));
        assert!(!reloads.is_empty(), "running");
        reloads.add(plugin("a"));
        assert_eq!(reloads.running.map(|(running, _)| running), Some(Config));
        assert_eq!(reloads.queued, [plugin("a")]);
    }
}

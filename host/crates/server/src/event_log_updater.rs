//! Updates of the event log: follows the status changes of all sources while the log has subscribers.

use crate::{event_log::EventLog, render_pool::RenderPool};
use reloader_app::{ChangedSources, StatusChanges};
use reloader_engine::types::SourceName;
use std::{collections::BTreeSet, iter, sync::Arc};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of entries that are updated on an async worker thread. More entries are updated on a background
/// thread.
const MAX_INLINE_UPDATES: usize = 16;

/// Updates the entries of an event log while the log has subscribers. Without subscribers, changes are only collected.
pub(crate) struct Updater {
    log: Arc<EventLog>,
    changes: StatusChanges,
    requests: mpsc::Receiver<oneshot::Sender<()>>,
    render_pool: Arc<RenderPool>,
}

impl Updater {
    /// Creates the updater of a log. `requests` are the update requests of its subscribers.
    pub(crate) fn new(
        log: Arc<EventLog>,
        requests: mpsc::Receiver<oneshot::Sender<()>>,
        render_pool: Arc<RenderPool>,
    ) -> Self {
        let changes = log.handle.status_changes();
        Self { log, changes, requests, render_pool }
    }

    /// Updates the event log until the task is aborted.
    pub(crate) async fn run(mut self) {
        loop {
            let mut answers = Vec::new();
            tokio::select! {
                () = self.changes.wait(), if self.log.subscribers() > 0 => {}
                answer = self.requests.recv() => answers.extend(answer),
            }
            answers.extend(iter::from_fn(|| self.requests.try_recv().ok()));
            // Without subscribers, the changes stay collected until the next subscriber requests an update.
            if !answers.is_empty() || self.log.subscribers() > 0 {
                self.update().await;
            }
            for answer in answers {
                let _ = answer.send(());
            }
        }
    }

    /// Updates the log entries of the sources that have changed since the last update.
    async fn update(&self) {
        let (log, changed) = (Arc::clone(&self.log), self.take_changes());
        if changed.len() <= MAX_INLINE_UPDATES {
            log.update(&changed).await;
        } else {
            let _ = self.render_pool.run(async move { log.update(&changed).await }).await;
        }
    }

    fn take_changes(&self) -> BTreeSet<SourceName> {
        match self.changes.take() {
            ChangedSources::Named(names) => names,
            ChangedSources::All => {
                let mut names = self.log.logged_sources();
                names.extend(self.log.handle.source_names());
                names
            }
        }
    }
}

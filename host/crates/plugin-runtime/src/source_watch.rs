//! Watch of a source by a plugin: rate limited, and reopened when a secret changes.

use crate::{
    configured_plugin::ConfiguredPlugin, instance::Instance, resolved_settings::ResolvedSettings,
    value_and_event_rate_limit::RateLimit,
};
use async_trait::async_trait;
use reloader_engine::types::{Cursor, Event, Failure};
use reloader_fs_watch::{FileWatcher, PathWatch};
use reloader_source::provider::Watcher;
use std::{
    future::{Future, pending, poll_fn},
    io,
    path::{Path, absolute},
    sync::Arc,
    task::Poll,
};

/// Watch of one source, with an instance of its own.
pub(crate) struct SourceWatch {
    plugin: ConfiguredPlugin,
    /// Instance for the next call. `None` after a failed or dropped call of [`next`](Watcher::next).
    instance: Option<Instance>,
    opened_with: Arc<ResolvedSettings>,
    secrets: SecretFiles,
    rate_limit: RateLimit,
}

impl SourceWatch {
    /// Opens an instance of the plugin, and arms the watch in it with the cursor `known`.
    pub(crate) async fn open(
        plugin: &ConfiguredPlugin,
        known: Option<Cursor>,
    ) -> Result<Self, Failure> {
        let context = plugin.context();
        let before = plugin.resolved_settings().await;
        let secrets = SecretFiles::watch(&context.files, before.secrets.files()).await;
        // Checks the files with secrets again, to find changes between the first check and the start of
        // the file watches.
        let opened_with = plugin.resolved_settings().await;
        let armed = plugin.open(&opened_with).await?.arm(known).await;
        armed.result?;
        let rate_limit = RateLimit::of_events(context.limits.events.get());
        let plugin = plugin.clone();
        Ok(Self { plugin, instance: armed.instance, opened_with, secrets, rate_limit })
    }
}

#[async_trait]
impl Watcher for SourceWatch {
    async fn next(&mut self) -> Result<Event, Failure> {
        self.rate_limit.charge(1);
        if self.rate_limit.wait().await {
            self.plugin.report_rate_limited("too many watch events", "events");
        }
        self.plugin.wait_for_value_rate().await;
        let instance = self.instance.take();
        let next = instance.ok_or_else(|| Failure::transient("the watch has ended"))?.next();
        let outcome = tokio::select! {
            outcome = next => outcome,
            () = self.secrets.changed(&self.plugin, &self.opened_with) => {
                *self = Self::open(&self.plugin, None).await?;
                return Ok(Event::Dirty);
            }
        };
        self.instance = outcome.instance;
        match outcome.result? {
            Event::Changed(snapshot) => {
                Ok(Event::Changed(self.plugin.check_snapshot(snapshot, &self.opened_with)?))
            }
            event => Ok(event),
        }
    }
}

/// File watches on the files with the secrets of an instance.
struct SecretFiles(Vec<PathWatch>);

impl SecretFiles {
    async fn watch(files: &FileWatcher, paths: impl Iterator<Item = &Path>) -> Self {
        let mut watches = Vec::new();
        for path in paths {
            // A file that cannot be watched is checked at each read of the source.
            if let Ok(path) = absolute(path)
                && let Ok(watch) = files.watch(&path).await
            {
                watches.push(watch);
            }
        }
        Self(watches)
    }

    /// Waits until the settings with which the instance was opened are outdated.
    async fn changed(&mut self, plugin: &ConfiguredPlugin, opened_with: &Arc<ResolvedSettings>) {
        while self.any_changed().await {
            if !Arc::ptr_eq(&plugin.resolved_settings().await, opened_with) {
                return;
            }
        }
        pending().await
    }

    /// Waits until a file may have changed. Returns false if no more changes will be reported.
    async fn any_changed(&mut self) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut changes: Vec<_> =
            self.0.iter_mut().map(|watch| Box::pin(watch.changed())).collect();
        let first = poll_fn(|context| {
            for change in &mut changes {
                if let Poll::Ready(result) = change.as_mut().poll(context) {
                    return Poll::Ready(result);
                }
            }
            Poll::Pending
        });
        // A timeout does not end the watch of a file: its file system may answer again.
        first.await.map_or_else(|error| error.kind() == io::ErrorKind::TimedOut, |()| true)
    }
}

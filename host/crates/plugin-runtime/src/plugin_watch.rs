//! Watch of a plugin: rate-limited, and reopened when a secret changes.

use crate::{
    instance::Instance, limits::Count, provider::PluginProvider, source_context::ResolvedSettings,
};
use async_trait::async_trait;
use reloader_engine::types::{Cursor, Event, Failure};
use reloader_fs_watch::{FileWatcher, PathWatch};
use reloader_source::provider::Watcher;
use std::{
    future::{Future, pending, poll_fn},
    path::{Path, absolute},
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Watch of one source, with an instance of its own.
pub(crate) struct PluginWatch {
    provider: PluginProvider,
    /// `None` after a call that did not complete.
    instance: Option<Instance>,
    opened_with: Arc<ResolvedSettings>,
    secrets: SecretFiles,
    rate_limit: EventRateLimit,
}

impl PluginWatch {
    /// Opens and arms an instance.
    pub(crate) async fn open(
        provider: &PluginProvider,
        known: Option<Cursor>,
    ) -> Result<Self, Failure> {
        let context = provider.context();
        let before = provider.resolved_settings().await;
        let secrets = SecretFiles::watch(&context.files, before.secrets.files()).await;
        // Checked again after the files are watched, so that no change in between is missed.
        let opened_with = provider.resolved_settings().await;
        let armed = provider.open(&opened_with).await?.arm(known).await;
        armed.result?;
        let rate_limit = EventRateLimit::new(context.limits.events);
        let provider = provider.clone();
        Ok(Self { provider, instance: armed.instance, opened_with, secrets, rate_limit })
    }
}

#[async_trait]
impl Watcher for PluginWatch {
    async fn next(&mut self) -> Result<Event, Failure> {
        if self.rate_limit.wait().await {
            self.provider.report_rate_limited("too many watch events", "events");
        }
        self.provider.wait_for_value_rate().await;
        let instance = self.instance.take();
        let next = instance.ok_or_else(|| Failure::transient("the watch has ended"))?.next();
        let outcome = tokio::select! {
            outcome = next => outcome,
            () = self.secrets.changed(&self.provider, &self.opened_with) => {
                *self = Self::open(&self.provider, None).await?;
                return Ok(Event::Dirty);
            }
        };
        self.instance = outcome.instance;
        match outcome.result? {
            Event::Changed(snapshot) => {
                Ok(Event::Changed(self.provider.check_snapshot(snapshot, &self.opened_with)?))
            }
            event => Ok(event),
        }
    }
}

/// Watches on the files with the secrets of an instance.
struct SecretFiles(Vec<PathWatch>);

impl SecretFiles {
    async fn watch(files: &FileWatcher, paths: impl Iterator<Item = &Path>) -> Self {
        let mut watches = Vec::new();
        for path in paths {
            // Files that cannot be watched are checked on each read of the source.
            if let Ok(path) = absolute(path)
                && let Ok(watch) = files.watch(&path).await
            {
                watches.push(watch);
            }
        }
        Self(watches)
    }

    /// Waits until the settings with which the instance was opened are outdated.
    async fn changed(&mut self, provider: &PluginProvider, opened_with: &Arc<ResolvedSettings>) {
        while self.any_changed().await {
            if !Arc::ptr_eq(&provider.resolved_settings().await, opened_with) {
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
        first.await.is_ok()
    }
}

/// Rate limit of a watch's events: a fixed number in each window of one second.
struct EventRateLimit {
    per_second: Count,
    window_start: Instant,
    events: u32,
}

impl EventRateLimit {
    fn new(per_second: Count) -> Self {
        Self { per_second, window_start: Instant::now(), events: 0 }
    }

    /// Waits until another event may arrive. Returns whether it had to wait.
    async fn wait(&mut self) -> bool {
        let end = self.window_start + Duration::from_secs(1);
        let now = Instant::now();
        let is_slowed = now < end && self.events >= self.per_second.0;
        if is_slowed {
            sleep_until(end).await;
        }
        if Instant::now() >= end {
            (self.window_start, self.events) = (Instant::now(), 0);
        }
        self.events += 1;
        is_slowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn excess_events_wait_after_burst() {
        let mut limit = EventRateLimit::new(Count(100));
        let start = Instant::now();
        for _ in 0..100 {
            assert!(!limit.wait().await);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let mut waits = 0;
        for _ in 0..900 {
            waits += u32::from(limit.wait().await);
        }
        assert_eq!(waits, 9, "once a second");
        assert_eq!(start.elapsed().as_secs(), 9);
    }
}

//! A plugin's watch at work: at a bounded pace, and opened anew when a secret changes.

use crate::{
    instance::Instance, limits::Count, provider::PluginProvider, source_context::Configured,
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

pub(crate) struct PluginWatch {
    origin: PluginProvider,
    /// `None` once a call has not come back.
    instance: Option<Instance>,
    made_with: Arc<Configured>,
    secrets: SecretFiles,
    pace: EventPace,
}

impl PluginWatch {
    /// An instance, armed.
    pub(crate) async fn open(
        origin: &PluginProvider,
        known: Option<Cursor>,
    ) -> Result<Self, Failure> {
        let surroundings = origin.surroundings();
        let before = origin.configured().await;
        let secrets = SecretFiles::watch(&surroundings.files, before.secrets.files()).await;
        // Now that they are watched: no change of them falls between.
        let made_with = origin.configured().await;
        let called = origin.open(&made_with).await?.arm(known).await;
        called.result?;
        let pace = EventPace::new(surroundings.limits.events);
        Ok(Self { origin: origin.clone(), instance: called.instance, made_with, secrets, pace })
    }
}

#[async_trait]
impl Watcher for PluginWatch {
    async fn next(&mut self) -> Result<Event, Failure> {
        if self.pace.keep().await {
            self.origin.is_slowed_down("the watch says too much", "events");
        }
        self.origin.turn().await;
        let instance = self.instance.take();
        let next = instance.ok_or_else(|| Failure::transient("the watch is gone"))?.next();
        let called = tokio::select! {
            called = next => called,
            () = self.secrets.changed(&self.origin, &self.made_with) => {
                *self = Self::open(&self.origin, None).await?;
                return Ok(Event::Dirty);
            }
        };
        self.instance = called.instance;
        match called.result? {
            Event::Changed(snapshot) => {
                Ok(Event::Changed(self.origin.accept(snapshot, &self.made_with)?))
            }
            event => Ok(event),
        }
    }
}

/// The files with secrets that a watch depends on.
struct SecretFiles(Vec<PathWatch>);

impl SecretFiles {
    async fn watch(files: &FileWatcher, paths: impl Iterator<Item = &Path>) -> Self {
        let mut watches = Vec::new();
        for path in paths {
            // What cannot be watched is looked at whenever the source is read.
            if let Ok(path) = absolute(path)
                && let Ok(watch) = files.watch(&path).await
            {
                watches.push(watch);
            }
        }
        Self(watches)
    }

    /// Waits until what a plugin was opened with is out of date.
    async fn changed(&mut self, origin: &PluginProvider, made_with: &Arc<Configured>) {
        while self.any().await {
            if !Arc::ptr_eq(&origin.configured().await, made_with) {
                return;
            }
        }
        pending().await
    }

    /// Waits until one of them may have changed; false when nothing tells of that any more.
    async fn any(&mut self) -> bool {
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

/// Slows a watch down that has too much to say.
struct EventPace {
    per_second: Count,
    second: Instant,
    seen: u32,
}

impl EventPace {
    fn new(per_second: Count) -> Self {
        Self { per_second, second: Instant::now(), seen: 0 }
    }

    /// Waits until one more may come. Whether it had to.
    async fn keep(&mut self) -> bool {
        let end = self.second + Duration::from_secs(1);
        let now = Instant::now();
        let is_slowed = now < end && self.seen >= self.per_second.0;
        if is_slowed {
            sleep_until(end).await;
        }
        if Instant::now() >= end {
            (self.second, self.seen) = (Instant::now(), 0);
        }
        self.seen += 1;
        is_slowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_slowed_down_and_a_burst_is_not() {
        let mut pace = EventPace::new(Count(100));
        let start = Instant::now();
        for _ in 0..100 {
            assert!(!pace.keep().await);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let mut slowed = 0;
        for _ in 0..900 {
            slowed += u32::from(pace.keep().await);
        }
        assert_eq!(slowed, 9, "once a second");
        assert_eq!(start.elapsed().as_secs(), 9);
    }
}

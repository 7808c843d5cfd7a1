//! Adapter of plugins to the traits of `hot_reload`: [`PluginReloader`].

use crate::source_builder::SourceBuilder;
use async_trait::async_trait;
use reloader_engine::types::{Event, Failure, FailureKind, Outcome, Snapshot};
use reloader_source::{
    hot_reload_compat::{
        RealtimeWatch, RealtimeWatchHandle, Reload, ReloadResult, ReloaderError, WatchEvent,
    },
    provider::{Provider, Watcher},
};
use reloader_util::panics;
use serde::de::DeserializeOwned;
use std::{marker::PhantomData, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Reloader that reads values of the type `V` through a plugin, for a
/// [`ReloaderService`](reloader_source::hot_reload_compat::ReloaderService). Values are decoded by their media type:
/// JSON, TOML or YAML.
///
#[cfg_attr(feature = "bundled", doc = "```")]
#[cfg_attr(not(feature = "bundled"), doc = "```ignore")]
/// use reloader_plugin_runtime::{PluginHost, PluginReloader};
/// use reloader_source::hot_reload_compat::{ReloaderConfig, ReloaderService};
///
/// #[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
/// struct Config {
///     port: u16,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("app.toml").display().to_string();
/// # std::fs::write(&path, "port = 80")?;
/// let plugin = PluginHost::new()?.load("file").await?;
/// let source = plugin.source("app").set("path", path);
/// let (service, mut config) =
///     ReloaderService::<PluginReloader<Config>, Config, _>::new(&source, ReloaderConfig::hybrid(10))
///         .await?;
/// tokio::spawn(async move { service.start_with_realtime().await });
/// config.changed().await?;
/// assert_eq!(config.get().map(|config| config.port), Some(80));
/// # Ok(())
/// # }
/// ```
///
/// The adapter does not use cursors: each read transfers the whole value. For large values, a
/// [`Source`](reloader_source::running_source::Source) is more efficient.
pub struct PluginReloader<V> {
    provider: Arc<dyn Provider>,
    /// Maximum time between two events of a watch, after which it is reopened. The service itself does not bound the
    /// silence of a watch.
    liveness: Duration,
    value: PhantomData<fn() -> V>,
}

impl<V> Clone for PluginReloader<V> {
    fn clone(&self) -> Self {
        Self { provider: Arc::clone(&self.provider), ..*self }
    }
}

/// Delay before a second read that confirms the absence of a value.
const ABSENCE_CONFIRM_DELAY: Duration = Duration::from_millis(200);

impl<V: DeserializeOwned> PluginReloader<V> {
    async fn load(&self) -> Result<Option<V>, Failure> {
        // Each read uses a new reader: a reader that is kept would hold its instance idle between two polls.
        match self.provider.reader().read(None).await? {
            Outcome::Changed(snapshot) => decode(&snapshot).map(Some),
            Outcome::Absent | Outcome::Unchanged => Ok(None),
        }
    }

    /// Converts an event of a plugin to an event of a reloader. Returns `None` for a keepalive.
    async fn event(&self, event: Result<Event, Failure>) -> Result<Option<WatchEvent<V>>, Failure> {
        let loaded = match event? {
            Event::Alive => return Ok(None),
            Event::Changed(snapshot) => decode(&snapshot).map(Some),
            Event::Dirty => self.load().await,
            Event::Removed => Ok(None),
        };
        let loaded = match loaded {
            Ok(None) => {
                sleep(ABSENCE_CONFIRM_DELAY).await;
                self.load().await
            }
            loaded => loaded,
        };
        Ok(Some(match loaded {
            Ok(Some(value)) => WatchEvent::Changed(value),
            Ok(None) => WatchEvent::Removed,
            Err(failure) => WatchEvent::Error(failure.to_string()),
        }))
    }
}

/// Decodes a value. A panic in `Deserialize` of the type `V` becomes a failure, so that it does not end the watch.
fn decode<V: DeserializeOwned>(snapshot: &Snapshot) -> Result<V, Failure> {
    match panics::catch(|| snapshot.decode()) {
        Ok(decoded) => decoded.map_err(|error| Failure::transient(error.to_string())),
        Err(message) => {
            let message = format!("decoding panicked: {message}");
            Err(Failure::new(FailureKind::Crashed, message))
        }
    }
}

#[async_trait]
impl<V> Reload<V, String> for PluginReloader<V>
where
    V: DeserializeOwned + Eq + PartialEq + Send + Sync + 'static,
{
    type Source = SourceBuilder;

    async fn new(source: &SourceBuilder) -> ReloadResult<Self, V, String> {
        let provider = source.provider().map_err(|error| ReloaderError::Other(error.into()))?;
        Ok(Self { provider, liveness: source.liveness(), value: PhantomData })
    }

    async fn reload(&self) -> ReloadResult<Option<V>, V, String> {
        self.load().await.map_err(|failure| ReloaderError::Other(failure.into()))
    }
}

#[async_trait]
impl<V> RealtimeWatch<V, String> for PluginReloader<V>
where
    V: DeserializeOwned + Eq + PartialEq + Send + Sync + 'static,
{
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<V>, V, String> {
        let watch = self.provider.arm(None).await;
        let watch = watch.map_err(|failure| ReloaderError::Other(failure.into()))?;
        let (events, receiver) = mpsc::channel(1);
        // Dropping the `JoinSet`, which the returned handle owns, aborts the task.
        let mut task = JoinSet::new();
        task.spawn(forward_events(self.clone(), watch, events));
        Ok(RealtimeWatchHandle::with_cleanup(receiver, Box::new(task)))
    }

    /// Returns true: a value that cannot be decoded does not end the watch.
    fn outlives_errors(&self) -> bool {
        true
    }
}

/// Forwards events until the watch ends or exceeds its liveness limit, or the receiver is dropped.
async fn forward_events<V>(
    reloader: PluginReloader<V>,
    mut watch: Box<dyn Watcher>,
    events: mpsc::Sender<WatchEvent<V>>,
) where
    V: DeserializeOwned + Send + Sync + 'static,
{
    while let Ok(event) = timeout(reloader.liveness, watch.next()).await
        && let Ok(event) = reloader.event(event).await
    {
        if let Some(event) = event
            && events.send(event).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reloader_engine::types::Cursor;
    use reloader_source::provider::Reader;
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    /// Provider with a first read that fails, a second read that never completes, and a silent watch.
    #[derive(Clone, Default)]
    struct Busy(Arc<AtomicUsize>);

    #[async_trait]
    impl Provider for Busy {
        fn reader(&self) -> Box<dyn Reader> {
            Box::new(self.clone())
        }

        async fn arm(&self, _: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
            Ok(Box::new(self.clone()))
        }
    }

    #[async_trait]
    impl Reader for Busy {
        async fn read(&mut self, _: Option<Cursor>) -> Result<Outcome, Failure> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Err(busy()),
                1 => pending().await,
                _ => {
                    let media_type = Some("application/json".into());
                    Ok(Outcome::Changed(Snapshot { media_type, ..Snapshot::new("7") }))
                }
            }
        }
    }

    #[async_trait]
    impl Watcher for Busy {
        async fn next(&mut self) -> Result<Event, Failure> {
            pending().await
        }
    }

    fn busy() -> Failure {
        let retry_after = Some(Duration::from_secs(60));
        Failure::new(FailureKind::Transient { retry_after }, "too many requests")
    }

    fn reloader() -> PluginReloader<u32> {
        let provider = Arc::new(Busy::default());
        PluginReloader { provider, liveness: Duration::from_secs(60), value: PhantomData }
    }

    /// The error of `reload` contains the provider's failure. A read that is dropped before it completes does not
    /// affect the next read.
    #[tokio::test(start_paused = true)]
    async fn failure_is_forwarded_and_dropped_read_is_harmless() {
        let reloader = reloader();
        let error = reloader.reload().await.err().and_then(|error| match error {
            ReloaderError::Other(error) => error.downcast::<Failure>().ok(),
            _ => None,
        });
        assert_eq!(error, Some(busy()));
        assert!(timeout(Duration::from_secs(1), reloader.reload()).await.is_err());
        assert!(matches!(reloader.reload().await, Ok(Some(7))));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_watch_ends() {
        let mut handle = reloader().watch_realtime().await.map_err(|_| "not opened").unwrap();
        assert!(handle.rx.recv().await.is_none());
    }

    /// Type whose deserialization panics.
    #[derive(PartialEq, Eq)]
    struct Undecodable;

    impl<'de> serde::Deserialize<'de> for Undecodable {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("by the test")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn decode_panic_is_failure_and_watch_error() {
        let provider = Arc::new(Busy(Arc::new(AtomicUsize::new(2))));
        let liveness = Duration::from_secs(60);
        let reloader = PluginReloader::<Undecodable> { provider, liveness, value: PhantomData };
        let failure = reloader.load().await.err().unwrap();
        let message = "decoding panicked: by the test";
        assert_eq!(failure, Failure::new(FailureKind::Crashed, message));
        let event = reloader.event(Ok(Event::Dirty)).await.unwrap();
        assert!(matches!(event, Some(WatchEvent::Error(error)) if error == message));
    }
}

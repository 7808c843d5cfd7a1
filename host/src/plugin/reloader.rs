//! A plugin behind the traits of a Rust reloader: [`PluginReloader`].

use super::SourceBuilder;
use crate::{
    model::{Event, Failure, Outcome, Snapshot},
    origin::{Origin, Read, Watch},
    reload::{RealtimeWatch, RealtimeWatchHandle, Reload, ReloadResult, ReloaderError, WatchEvent},
};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use std::{marker::PhantomData, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::sleep,
};

/// Loads a `V` through a plugin, so that a service of it works like any other
/// [`ReloaderService`](crate::ReloaderService). The value is decoded by its media type: JSON, TOML or
/// YAML.
///
/// ```
/// use reloader_host::{PluginReloader, ReloaderConfig, ReloaderService, Runtime};
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
/// let plugin = Runtime::new()?.load("file").await?;
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
/// It has no use for cursors: the plugin is asked for the whole value each time. A
/// [`Source`](crate::Source) does better where that is much.
pub struct PluginReloader<V> {
    origin: Arc<dyn Origin>,
    /// Kept from one call to the next, with its instance; never used by two at once.
    reader: Arc<Mutex<Option<Box<dyn Read>>>>,
    value: PhantomData<fn() -> V>,
}

impl<V> Clone for PluginReloader<V> {
    fn clone(&self) -> Self {
        Self {
            origin: Arc::clone(&self.origin),
            reader: Arc::clone(&self.reader),
            value: PhantomData,
        }
    }
}

/// "There is nothing" is said when it is still so this much later.
const CONFIRM: Duration = Duration::from_millis(200);

impl<V: DeserializeOwned> PluginReloader<V> {
    async fn load(&self) -> Result<Option<V>, String> {
        let mut kept = self.reader.lock().await;
        let mut reader = kept.take().unwrap_or_else(|| self.origin.reader());
        let result = reader.read(None).await;
        *kept = Some(reader);
        match result.map_err(|failure| failure.to_string())? {
            Outcome::Changed(snapshot) => decode(&snapshot).map(Some),
            Outcome::Absent | Outcome::Unchanged => Ok(None),
        }
    }

    /// What an event of the plugin's is as one of a reloader's; `None`: there is nothing to say.
    async fn event(&self, event: Result<Event, Failure>) -> Result<Option<WatchEvent<V>>, Failure> {
        let loaded = match event? {
            Event::Alive => return Ok(None),
            Event::Changed(snapshot) => decode(&snapshot).map(Some),
            Event::Dirty => self.load().await,
            Event::Removed => Ok(None),
        };
        let loaded = match loaded {
            Ok(None) => {
                sleep(CONFIRM).await;
                self.load().await
            }
            loaded => loaded,
        };
        Ok(Some(match loaded {
            Ok(Some(value)) => WatchEvent::Changed(value),
            Ok(None) => WatchEvent::Removed,
            Err(reason) => WatchEvent::Error(reason),
        }))
    }
}

fn decode<V: DeserializeOwned>(snapshot: &Snapshot) -> Result<V, String> {
    snapshot.decode().map_err(|error| error.to_string())
}

#[async_trait]
impl<V> Reload<V, String> for PluginReloader<V>
where
    V: DeserializeOwned + Eq + PartialEq + Send + Sync + 'static,
{
    type Source = SourceBuilder;

    async fn new(source: &SourceBuilder) -> ReloadResult<Self, V, String> {
        let origin = source.origin().map_err(|error| ReloaderError::Other(error.into()))?;
        Ok(Self { origin, reader: Arc::default(), value: PhantomData })
    }

    async fn reload(&self) -> ReloadResult<Option<V>, V, String> {
        self.load().await.map_err(ReloaderError::Reload)
    }
}

#[async_trait]
impl<V> RealtimeWatch<V, String> for PluginReloader<V>
where
    V: DeserializeOwned + Eq + PartialEq + Send + Sync + 'static,
{
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<V>, V, String> {
        let watch = self.origin.arm(None).await;
        let watch = watch.map_err(|failure| ReloaderError::Reload(failure.to_string()))?;
        let (events, receiver) = mpsc::channel(1);
        // Which ends the task when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(listen(self.clone(), watch, events));
        Ok(RealtimeWatchHandle::with_cleanup(receiver, Box::new(task)))
    }

    /// A value that cannot be decoded is no reason to listen anew.
    fn outlives_errors(&self) -> bool {
        true
    }
}

/// Passes events on until the watch is lost, or nobody wants to know.
async fn listen<V>(
    reloader: PluginReloader<V>,
    mut watch: Box<dyn Watch>,
    events: mpsc::Sender<WatchEvent<V>>,
) where
    V: DeserializeOwned + Send + Sync + 'static,
{
    while let Ok(event) = reloader.event(watch.next().await).await {
        if let Some(event) = event
            && events.send(event).await.is_err()
        {
            return;
        }
    }
}

//! What keeps a Rust reloader's value up to date.

use super::{
    RealtimeWatch, Reload, ReloadResult, ReloaderConfig, ReloaderError, ReloaderReceiver,
    ReloaderSender,
    channel::channel,
    driver_adapter::{Arm, Loaded, ReloaderEdge, Watching},
};
use crate::driver::{Driver, Ended, now, seed};
use reloader_engine::{
    Engine, Settings,
    types::{Failure, SourceName, Strategy},
};
use std::{
    borrow::Cow,
    fmt::Display,
    marker::PhantomData,
    sync::{Arc, PoisonError},
};
use tokio::sync::{Mutex, mpsc};

/// Keeps the value of a reloader up to date, while [`start`](Self::start) or
/// [`start_with_realtime`](Self::start_with_realtime) runs.
pub struct ReloaderService<T, V, S = &'static str>
where
    T: Reload<V, S>,
    V: Eq + PartialEq + Clone,
    S: Into<Cow<'static, str>> + Display,
{
    reloader: T,
    sender: ReloaderSender<V>,
    settings: Settings,
    /// Held while it runs: a second start waits for the end of the first.
    running: Mutex<()>,
    messages: PhantomData<fn() -> S>,
}

impl<T, V, S> ReloaderService<T, V, S>
where
    T: Reload<V, S> + Clone,
    V: Eq + PartialEq + Clone,
    S: Into<Cow<'static, str>> + Display,
{
    /// A service for this source, and a first receiver of its value.
    ///
    /// # Errors
    ///
    /// Those of [`Reload::new`].
    pub async fn new(
        source: &<T as Reload<V, S>>::Source,
        config: ReloaderConfig,
    ) -> ReloadResult<(Self, ReloaderReceiver<V, S>), V, S> {
        Self::with_settings(source, config.settings()).await
    }

    /// The same, that polls every ten seconds.
    ///
    /// # Errors
    ///
    /// Those of [`Reload::new`].
    pub async fn with_defaults(
        source: &<T as Reload<V, S>>::Source,
    ) -> ReloadResult<(Self, ReloaderReceiver<V, S>), V, S> {
        Self::new(source, ReloaderConfig::default()).await
    }

    /// The same, that polls every so many seconds.
    ///
    /// # Errors
    ///
    /// Those of [`Reload::new`].
    pub async fn with_delay(
        source: &<T as Reload<V, S>>::Source,
        watch_delay_sec: u32,
    ) -> ReloadResult<(Self, ReloaderReceiver<V, S>), V, S> {
        Self::new(source, ReloaderConfig::polling(watch_delay_sec)).await
    }

    /// The same with every setting that there is; [`ReloaderConfig::settings`] and
    /// [`ReloaderConfig::interval`] have defaults for the rest.
    ///
    /// # Errors
    ///
    /// Those of [`Reload::new`].
    pub async fn with_settings(
        source: &<T as Reload<V, S>>::Source,
        settings: Settings,
    ) -> ReloadResult<(Self, ReloaderReceiver<V, S>), V, S> {
        let reloader = <T as Reload<V, S>>::new(source).await?;
        let (sender, receiver) = channel();
        let running = Mutex::default();
        Ok((Self { reloader, sender, settings, running, messages: PhantomData }, receiver))
    }

    /// Polls until the future is dropped.
    ///
    /// # Errors
    ///
    /// At once when the strategy is not polling, which needs
    /// [`start_with_realtime`](Self::start_with_realtime);
    /// [`ReloaderError::WatchSendError`] when there is a new value and no receiver any more.
    pub async fn start(&self) -> ReloadResult<(), V, S> {
        if self.settings.strategy != Strategy::Polling {
            return Err(ReloaderError::Other(anyhow::anyhow!(
                "the strategy {} needs a reloader that implements `RealtimeWatch`, and \
                 `start_with_realtime()` instead of `start()`",
                self.settings.strategy
            )));
        }
        self.run(None, false).await
    }

    async fn run<'a>(
        &'a self,
        arm: Option<Arm<'a, T, V, ReloaderError<V, S>>>,
        outlives_errors: bool,
    ) -> ReloadResult<(), V, S> {
        let _running = self.running.lock().await;
        let revision = self.sender.status.borrow().revision;
        let value = self.sender.values.borrow().clone().map(Loaded);
        let engine = Engine::new(self.settings.clone(), seed(), now()).resume(revision, value);
        let refused = Arc::default();
        let edge = ReloaderEdge {
            reloader: &self.reloader,
            reload: |reloader| reloader.reload(),
            arm,
            failure,
            watching: Watching {
                outlives_errors,
                must_open: self.settings.strategy == Strategy::Realtime,
                refused: Arc::clone(&refused),
            },
            values: &self.sender.values,
        };
        // Kept, since the driver ends without it.
        let (_commands, receiver) = mpsc::channel(1);
        let name = SourceName::new(std::any::type_name::<T>());
        let mut driver = Box::new(Driver::new(name, edge, engine, &self.sender, Arc::default()));
        let ended = driver.run(receiver).await;
        match ended {
            Ok(()) => Ok(()),
            Err(Ended::Unheard(error)) => Err(ReloaderError::WatchSendError(error)),
            Err(Ended::GaveUp(failure)) => {
                let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(refused.unwrap_or_else(|| ReloaderError::Other(failure.into())))
            }
        }
    }
}

impl<T, V, S> ReloaderService<T, V, S>
where
    T: RealtimeWatch<V, S> + Clone,
    V: Eq + PartialEq + Clone,
    S: Into<Cow<'static, str>> + Display,
{
    /// Listens, polls, or both, as the strategy says, until the future is dropped. A watch that is
    /// lost is opened again.
    ///
    /// # Errors
    ///
    /// With the strategy realtime, that of the very first [`RealtimeWatch::watch_realtime`];
    /// [`ReloaderError::WatchSendError`] when there is a new value and no receiver any more.
    pub async fn start_with_realtime(&self) -> ReloadResult<(), V, S> {
        let arm: Arm<'_, T, V, ReloaderError<V, S>> = |reloader| reloader.watch_realtime();
        self.run(Some(arm), self.reloader.outlives_errors()).await
    }
}

/// What to make of an error: a reloader may say it itself.
fn failure<V, S>(error: &ReloaderError<V, S>) -> Failure
where
    V: Eq + PartialEq,
    S: Into<Cow<'static, str>> + Display,
{
    if let ReloaderError::Other(error) = error
        && let Some(failure) = error.downcast_ref::<Failure>()
    {
        return failure.clone();
    }
    Failure::transient(error.to_string())
}

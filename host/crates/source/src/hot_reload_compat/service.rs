//! Service that keeps the value of a Rust reloader up to date.

use super::{
    channel::{ReloaderReceiver, ReloaderSender, channel},
    config::ReloaderConfig,
    driver_adapter::{ArmFn, Loaded, ReloaderAdapter, WatchOptions},
    error::{ReloadResult, ReloaderError},
    reload_traits::{RealtimeWatch, Reload},
};
use crate::driver::{Driver, Ended, now, seed};
use reloader_engine::{
    Engine, Settings,
    types::{Failure, SourceName, Strategy},
};
use std::{borrow::Cow, fmt::Display, marker::PhantomData, sync::Arc};
use tokio::sync::{Mutex, mpsc};

/// Service that keeps the value of a reloader up to date while [`start`](Self::start) or
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
    /// Locked while the service runs: a second start waits for the end of the first.
    running: Mutex<()>,
    message_type: PhantomData<fn() -> S>,
}

impl<T, V, S> ReloaderService<T, V, S>
where
    T: Reload<V, S> + Clone,
    V: Eq + PartialEq + Clone,
    S: Into<Cow<'static, str>> + Display,
{
    /// Creates a service for this source and a first receiver of its value.
    ///
    /// # Errors
    ///
    /// Fails with the error of [`Reload::new`].
    pub async fn new(
        source: &<T as Reload<V, S>>::Source,
        config: ReloaderConfig,
    ) -> ReloadResult<(Self, ReloaderReceiver<V, S>), V, S> {
        Self::with_settings(source, config.settings()).await
    }

    /// Creates a service that polls every ten seconds.
    ///
    /// # Errors
    ///
    /// Fails with the error of [`Reload::new`].
    pub async fn with_defaults(
        source: &<T as Reload<V, S>>::Source,
    ) -> ReloadResult<(Self, ReloaderReceiver<V, S>), V, S> {
        Self::new(source, ReloaderConfig::default()).await
    }

    /// Creates a service that polls at this interval, in seconds.
    ///
    /// # Errors
    ///
    /// Fails with the error of [`Reload::new`].
    pub async fn with_delay(
        source: &<T as Reload<V, S>>::Source,
        watch_delay_sec: u32,
    ) -> ReloadResult<(Self, ReloaderReceiver<V, S>), V, S> {
        Self::new(source, ReloaderConfig::polling(watch_delay_sec)).await
    }

    /// Creates a service with all settings of the engine. [`ReloaderConfig::settings`] and
    /// [`ReloaderConfig::interval`] return settings with defaults.
    ///
    /// # Errors
    ///
    /// Fails with the error of [`Reload::new`].
    pub async fn with_settings(
        source: &<T as Reload<V, S>>::Source,
        settings: Settings,
    ) -> ReloadResult<(Self, ReloaderReceiver<V, S>), V, S> {
        let reloader = <T as Reload<V, S>>::new(source).await?;
        let (sender, receiver) = channel();
        let running = Mutex::default();
        Ok((Self { reloader, sender, settings, running, message_type: PhantomData }, receiver))
    }

    /// Polls until the future is dropped.
    ///
    /// # Errors
    ///
    /// Fails immediately if the strategy is not polling: the other strategies need
    /// [`start_with_realtime`](Self::start_with_realtime). Fails with [`ReloaderError::WatchSendError`] if there is
    /// a new value and all receivers are dropped.
    pub async fn start(&self) -> ReloadResult<(), V, S> {
        if self.settings.strategy != Strategy::Polling {
            return Err(ReloaderError::Other(anyhow::anyhow!(
                "`start()` supports only the strategy polling; implement `RealtimeWatch` and call \
                 `start_with_realtime()` for the strategy {}",
                self.settings.strategy
            )));
        }
        self.run(None, false).await
    }

    async fn run<'a>(
        &'a self,
        arm: Option<ArmFn<'a, T, V, ReloaderError<V, S>>>,
        outlives_errors: bool,
    ) -> ReloadResult<(), V, S> {
        let _running = self.running.lock().await;
        let revision = self.sender.status.borrow().revision;
        let value = self.sender.values.borrow().clone().map(Loaded);
        let engine = Engine::new(self.settings.clone(), seed(), now()).resume(revision, value);
        let first_watch_error = Arc::default();
        let adapter = ReloaderAdapter {
            reloader: &self.reloader,
            reload: |reloader| reloader.reload(),
            arm,
            to_failure,
            watch_options: WatchOptions {
                outlives_errors,
                is_first_required: self.settings.strategy == Strategy::Realtime,
                first_watch_error: Arc::clone(&first_watch_error),
            },
            values: &self.sender.values,
        };
        // The driver ends when the sender is dropped.
        let (_commands, receiver) = mpsc::channel(1);
        let name = SourceName::new(std::any::type_name::<T>());
        let mut driver = Box::new(Driver::new(name, adapter, engine, &self.sender, Arc::default()));
        let ended = driver.run(receiver).await;
        match ended {
            Ok(()) => Ok(()),
            Err(Ended::NoReceivers(error)) => Err(ReloaderError::WatchSendError(error)),
            Err(Ended::GaveUp(failure)) => Err(first_watch_error
                .lock()
                .take()
                .unwrap_or_else(|| ReloaderError::Other(failure.into()))),
        }
    }
}

impl<T, V, S> ReloaderService<T, V, S>
where
    T: RealtimeWatch<V, S> + Clone,
    V: Eq + PartialEq + Clone,
    S: Into<Cow<'static, str>> + Display,
{
    /// Polls, watches, or both, according to the strategy, until the future is dropped. A lost watch is opened
    /// again.
    ///
    /// # Errors
    ///
    /// With the strategy realtime, fails with the error of the first call of [`RealtimeWatch::watch_realtime`].
    /// Fails with [`ReloaderError::WatchSendError`] if there is a new value and all receivers are dropped.
    pub async fn start_with_realtime(&self) -> ReloadResult<(), V, S> {
        let arm: ArmFn<'_, T, V, ReloaderError<V, S>> = |reloader| reloader.watch_realtime();
        self.run(Some(arm), self.reloader.outlives_errors()).await
    }
}

/// Returns the failure for an error of a reloader: its own [`Failure`] in [`ReloaderError::Other`], otherwise a
/// transient one.
fn to_failure<V, S>(error: &ReloaderError<V, S>) -> Failure
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

//! Service that keeps the value of a Rust reloader up to date.

use super::{
    channel::{ReloaderReceiver, ReloaderSender, channel},
    config::ReloaderConfig,
    driver_adapter::{ArmFn, Loaded, ReloaderAdapter, WatchOptions},
    error::{ReloadResult, ReloaderError},
    reload_traits::{RealtimeWatch, Reload},
};
use crate::{
    caught_panics::{CatchDrop, panic_failure},
    driver::{Driver, Ended, Publish, now, seed},
};
use reloader_engine::{
    Engine, Settings,
    types::{Failure, Revision, SourceName, Strategy},
};
use reloader_util::{backoff, panics};
use std::{borrow::Cow, fmt::Display, marker::PhantomData, sync::Arc, time::Duration};
use tokio::sync::{Mutex, mpsc};
use tracing::warn;

/// First delay before the engine is restarted after a panic outside of the calls of a reloader.
const FIRST_RESTART_DELAY: Duration = Duration::from_millis(100);
/// Maximum delay before the engine is restarted after a panic outside of the calls of a reloader. The delay doubles
/// with each panic until a new value is published.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(10);

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
        let new = async { <T as Reload<V, S>>::new(source).await };
        let reloader = panics::catch_future(new)
            .await
            .unwrap_or_else(|message| Err(ReloaderError::Other(panic_failure(&message).into())))?;
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
        self.run(None, |_| false).await
    }

    /// Runs the engine. After a panic of the code of `V`, such as its comparison, a new engine continues from the last
    /// published value.
    async fn run<'a>(
        &'a self,
        arm: Option<ArmFn<'a, T, V, ReloaderError<V, S>>>,
        outlives_errors: fn(&T) -> bool,
    ) -> ReloadResult<(), V, S> {
        let _running = self.running.lock().await;
        let is_realtime = self.settings.strategy == Strategy::Realtime;
        let mut running = self.run_engine(arm, outlives_errors, is_realtime);
        // Published revision at the last panic, and the number of panics since its publication.
        let mut last_panic = (self.revision(), 0_u32);
        loop {
            let error = match panics::catch_future(running).await {
                Ok(ended) => return ended,
                Err(error) => error,
            };
            let (revision, count) = last_panic;
            let count = if revision == self.revision() { count } else { 0 };
            last_panic = (self.revision(), count.saturating_add(1));
            let retry_in = backoff::exponential(FIRST_RESTART_DELAY, MAX_RESTART_DELAY, count);
            let source = std::any::type_name::<T>();
            warn!(source, error, ?retry_in, "native source panicked, restarting the source");
            if self.sender.values.borrow().is_some() {
                (&self.sender).stale(Some(panic_failure(&error).message));
            }
            tokio::time::sleep(retry_in).await;
            running = self.run_engine(arm, outlives_errors, false);
        }
    }

    /// Returns the revision of the last published value.
    fn revision(&self) -> Revision {
        self.sender.status.borrow().revision
    }

    async fn run_engine<'a>(
        &'a self,
        arm: Option<ArmFn<'a, T, V, ReloaderError<V, S>>>,
        outlives_errors: fn(&T) -> bool,
        is_first_watch_required: bool,
    ) -> ReloadResult<(), V, S> {
        let value = self.sender.values.borrow().clone().map(Loaded);
        let engine = Engine::new(self.settings.clone(), seed(), now());
        let engine = engine.resume(self.revision(), value);
        let first_watch_error = Arc::default();
        let adapter = ReloaderAdapter {
            reloader: &self.reloader,
            reload: |reloader| reloader.reload(),
            arm,
            to_failure,
            watch_options: WatchOptions {
                outlives_errors: outlives_errors(&self.reloader),
                is_first_required: is_first_watch_required,
                first_watch_error: Arc::clone(&first_watch_error),
            },
            values: &self.sender.values,
        };
        // The driver would end if the sender of the commands were dropped.
        let (_commands, receiver) = mpsc::channel(1);
        let name = SourceName::new(std::any::type_name::<T>());
        let driver = Driver::new(name, adapter, engine, &self.sender, Arc::default());
        let mut driver = CatchDrop::new(Box::new(driver));
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
        self.run(Some(arm), |reloader| reloader.outlives_errors()).await
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

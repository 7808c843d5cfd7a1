//! Configuration of a `ReloaderService`.

use reloader_engine::{Settings, types::Strategy};
use std::time::Duration;

/// Configuration of a service. [`settings`](Self::settings) and [`interval`](Self::interval) give access to all
/// settings.
#[derive(Debug, Clone)]
pub struct ReloaderConfig {
    /// Interval of the polls, in seconds. With hybrid, it applies while the watch is down. 0 polls every
    /// millisecond.
    pub watch_delay_sec: u32,
    /// Send each loaded value, also an unchanged one.
    pub force_reload: bool,
    /// Update strategy: polling, watching, or both.
    pub strategy: Strategy,
}

/// Time limit of one call to a reloader. The limit is longer than that of a plugin call, because a reloader is trusted
/// code of the program itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);

impl ReloaderConfig {
    /// Default interval of the polls, in seconds.
    const DEFAULT_DELAY_SEC: u32 = 10;

    /// Returns the configuration for polling at an interval.
    #[must_use]
    pub fn polling(watch_delay_sec: u32) -> Self {
        Self { watch_delay_sec, force_reload: false, strategy: Strategy::Polling }
    }

    /// Returns the configuration for watching. The source is also read at the reconcile interval.
    #[must_use]
    pub fn realtime() -> Self {
        Self::hybrid(Self::DEFAULT_DELAY_SEC).with(Strategy::Realtime)
    }

    /// Returns the configuration for watching, with polling while the watch is down.
    #[must_use]
    pub fn hybrid(watch_delay_sec: u32) -> Self {
        Self::polling(watch_delay_sec).with(Strategy::Hybrid)
    }

    fn with(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// Returns all settings with this interval of the polls, which need not be whole seconds, for
    /// [`ReloaderService::with_settings`](super::ReloaderService::with_settings).
    #[must_use]
    pub fn interval(&self, interval: Duration) -> Settings {
        let mut settings = Settings::new(self.strategy, interval);
        settings.force_reload = self.force_reload;
        settings.timeout = CALL_TIMEOUT;
        // The watch of a reloader sends no heartbeats, so its silence is not limited.
        settings.liveness = Duration::MAX;
        // A removal is published without a second read.
        settings.confirm = Duration::ZERO;
        settings.confirm_after_outage = Duration::ZERO;
        // A call that exceeds its time limit is slow, not crashed.
        settings.silence_is_crash = false;
        // Disables the quarantine after repeated panics: a service has no function that would end a quarantine early.
        // The engine retries after a panic as after any other failure, at the latest with the next poll.
        settings.crashes_allowed = u32::MAX;
        settings
    }

    /// Returns all settings: those of this configuration, and the defaults of a Rust reloader.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.interval(Duration::from_secs(self.watch_delay_sec.into()))
    }
}

impl Default for ReloaderConfig {
    /// Returns the configuration for polling every ten seconds.
    fn default() -> Self {
        Self::polling(Self::DEFAULT_DELAY_SEC)
    }
}

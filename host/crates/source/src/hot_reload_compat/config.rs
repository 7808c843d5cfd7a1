//! How a service keeps its value up to date.

use reloader_engine::{Settings, types::Strategy};
use std::time::Duration;

/// How a service keeps its value up to date. [`settings`](Self::settings) leads to all there is to
/// set.
#[derive(Debug, Clone)]
pub struct ReloaderConfig {
    /// Seconds between two polls; for hybrid, while the watch is down. At 0 the source is polled
    /// every millisecond.
    pub watch_delay_sec: u32,
    /// Hand on what was loaded even when it has not changed.
    pub force_reload: bool,
    /// What drives the updates.
    pub strategy: Strategy,
}

/// A call to a Rust reloader may take this long; the program wrote it, so it is given more time than
/// a stranger's plugin.
const TIMEOUT: Duration = Duration::from_secs(300);

impl ReloaderConfig {
    const DELAY_SEC: u32 = 10;

    /// Polls.
    #[must_use]
    pub fn polling(watch_delay_sec: u32) -> Self {
        Self { watch_delay_sec, force_reload: false, strategy: Strategy::Polling }
    }

    /// Listens, and reads the source rarely besides.
    #[must_use]
    pub fn realtime() -> Self {
        Self::hybrid(Self::DELAY_SEC).with(Strategy::Realtime)
    }

    /// Listens, and polls while that does not work.
    #[must_use]
    pub fn hybrid(watch_delay_sec: u32) -> Self {
        Self::polling(watch_delay_sec).with(Strategy::Hybrid)
    }

    fn with(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// The same with another interval than whole seconds, and open for further settings; for
    /// [`ReloaderService::with_settings`](super::ReloaderService::with_settings).
    #[must_use]
    pub fn interval(&self, interval: Duration) -> Settings {
        let mut settings = Settings::new(self.strategy, interval);
        settings.force_reload = self.force_reload;
        settings.timeout = TIMEOUT;
        // A native watch is silent while nothing happens …
        settings.liveness = Duration::MAX;
        // … and what it says of a removal is final.
        settings.confirm = Duration::ZERO;
        settings.confirm_after_trouble = Duration::ZERO;
        // A call that takes long is waiting for something that the program chose to wait for.
        settings.silence_is_crash = false;
        settings
    }

    /// All settings, with the defaults of a Rust reloader where this says nothing.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.interval(Duration::from_secs(self.watch_delay_sec.into()))
    }
}

impl Default for ReloaderConfig {
    /// Polls every ten seconds.
    fn default() -> Self {
        Self::polling(Self::DELAY_SEC)
    }
}

//! Settings of the engine: strategy, intervals, timeouts and limits of one source.

use crate::types::Strategy;
use std::time::Duration;

/// Minimum of the poll interval and of the reconcile interval; prevents a busy loop.
const MIN_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum of every duration setting: 100 years. Adding it to an [`Instant`](std::time::Instant)
/// does not overflow.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Settings of one source. [`Settings::new`] provides the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Method to detect changes: polling, watching or both.
    pub strategy: Strategy,
    /// Poll interval, at least 1 ms.
    pub interval: Duration,
    /// Interval of the reconcile polls, which catch changes that the watch missed. With strategy
    /// `hybrid`, they replace the polls at `interval` only while the watch is live.
    pub reconcile: Duration,
    /// Time without a confirmation by the source after which its value is stale.
    pub stale_after: Duration,
    /// Liveness limit: maximum time between two events of a live watch. The engine reopens a watch
    /// that exceeds the limit. [`Duration::MAX`] for a watch that sends no heartbeats
    /// ([`Event::Alive`](crate::types::Event::Alive)).
    pub liveness: Duration,
    /// Deadline of a fetch, and of opening a watch.
    pub timeout: Duration,
    /// Name of the configured limit from which `timeout` is derived, if any, e.g. `call-timeout`.
    /// Timeout messages contain the name.
    pub timeout_limit: Option<&'static str>,
    /// Delay before the fetch that confirms a removal: that the source has no value or an empty one.
    pub confirm: Duration,
    /// Delay that replaces `confirm` after a start or a failure, when the source may not have loaded
    /// its data yet.
    pub confirm_after_outage: Duration,
    /// Validates and publishes each value that the source reports, even if it equals the published
    /// one.
    pub force_reload: bool,
    /// Number of consecutive crashes that starts a quarantine.
    pub crashes_allowed: u32,
    /// Length of the first quarantine. If the retry after a quarantine crashes, the next quarantine
    /// is twice as long, up to one hour.
    pub quarantine: Duration,
    /// Treats a call that exceeds its deadline, and a watch that exceeds its liveness limit, as
    /// crashed. If `false`, as a transient failure: a native source has no plugin that could crash.
    pub silence_is_crash: bool,
}

impl Settings {
    /// Returns the defaults for a strategy and a poll interval. A value becomes stale after three
    /// intervals, but not before 30 s.
    #[must_use]
    pub fn new(strategy: Strategy, interval: Duration) -> Self {
        Self {
            strategy,
            interval,
            reconcile: Duration::from_secs(300),
            stale_after: interval.saturating_mul(3).max(Duration::from_secs(30)),
            liveness: Duration::from_secs(60),
            timeout: Duration::from_secs(60),
            timeout_limit: None,
            confirm: Duration::from_millis(200),
            confirm_after_outage: Duration::from_secs(3),
            force_reload: false,
            crashes_allowed: 5,
            quarantine: Duration::from_secs(300),
            silence_is_crash: true,
        }
    }

    /// Returns the timeout for an error message, e.g. "within 60s (derived from limit
    /// `call-timeout`)".
    pub(crate) fn timeout_text(&self) -> String {
        let Self { timeout, timeout_limit, .. } = self;
        let limit = timeout_limit.map(|name| format!(" (derived from limit `{name}`)"));
        format!("within {timeout:?}{}", limit.unwrap_or_default())
    }

    /// Returns the settings with all durations between their minimum and maximum.
    pub(crate) fn clamped(mut self) -> Self {
        self.interval = self.interval.max(MIN_INTERVAL);
        self.reconcile = self.reconcile.max(MIN_INTERVAL);
        for duration in [
            &mut self.interval,
            &mut self.reconcile,
            &mut self.stale_after,
            &mut self.liveness,
            &mut self.timeout,
            &mut self.confirm,
            &mut self.confirm_after_outage,
            &mut self.quarantine,
        ] {
            *duration = (*duration).min(MAX_DURATION);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_clamped() {
        let century = Duration::from_secs(3_155_760_000);
        let mut settings = Settings::new(Strategy::Hybrid, Duration::ZERO);
        (settings.reconcile, settings.liveness) = (Duration::ZERO, Duration::MAX);
        let settings = settings.clamped();
        let minimum = Duration::from_millis(1);
        assert_eq!((settings.interval, settings.reconcile), (minimum, minimum));
        assert!((century.mul_f64(0.99)..=century).contains(&settings.liveness));
    }

    #[test]
    fn default_staleness_limit_is_three_intervals() {
        let stale_after = |seconds| {
            Settings::new(Strategy::Polling, Duration::from_secs(seconds)).stale_after.as_secs()
        };
        assert_eq!((stale_after(1), stale_after(60)), (30, 180));
    }
}

//! What can be set of the engine.

use crate::types::Strategy;
use std::time::Duration;

/// No interval is shorter, so that a source cannot be read in a loop.
const SHORTEST: Duration = Duration::from_millis(1);
/// No time is longer: a hundred years are as good as never, and can be added to any instant.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// How a source is kept up to date. [`Settings::new`] has the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What drives the updates.
    pub strategy: Strategy,
    /// Time between two polls; at least a millisecond.
    pub interval: Duration,
    /// Time between two fetches while a watch is live: a safety net, not a way to notice changes.
    pub reconcile: Duration,
    /// A value that its source has not stood for this long is stale.
    pub stale_after: Duration,
    /// A live watch says something at least this often, or is opened anew. [`Duration::MAX`] for a
    /// watch that is silent while nothing happens.
    pub liveness: Duration,
    /// A fetch, or the opening of a watch, that takes longer has failed.
    pub timeout: Duration,
    /// The limit that `timeout` follows from, if it has a name: who meets it is told.
    pub timeout_limit: Option<&'static str>,
    /// "There is nothing" is believed when it is still so this much later.
    pub confirm: Duration,
    /// The same, right after the source could not be reached: it may not have loaded its data yet.
    pub confirm_after_trouble: Duration,
    /// Publish what is read even when it has not changed.
    pub force_reload: bool,
    /// What crashes so many times in a row is put in quarantine.
    pub crashes_allowed: u32,
    /// How long a quarantine is, the first time; twice as long each time that the next try crashes too,
    /// up to an hour.
    pub quarantine: Duration,
    /// Whether a call that is given up, or a watch that is silent for too long, has crashed. If not,
    /// it has failed like any other: for programs that wrote their source themselves.
    pub silence_is_crash: bool,
}

impl Settings {
    /// The defaults for a strategy and an interval. A value is stale after three intervals, but not
    /// before half a minute has passed.
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
            confirm_after_trouble: Duration::from_secs(3),
            force_reload: false,
            crashes_allowed: 5,
            quarantine: Duration::from_secs(300),
            silence_is_crash: true,
        }
    }

    /// How long it was waited for, in words.
    pub(crate) fn waited(&self) -> String {
        let Self { timeout, timeout_limit, .. } = self;
        let limit = timeout_limit.map(|name| format!(", which follows from limit `{name}`"));
        format!("within {timeout:?}{}", limit.unwrap_or_default())
    }

    /// The same, with times that can be reckoned with.
    pub(crate) fn bounded(mut self) -> Self {
        self.interval = self.interval.max(SHORTEST);
        self.reconcile = self.reconcile.max(SHORTEST);
        for time in [
            &mut self.interval,
            &mut self.reconcile,
            &mut self.stale_after,
            &mut self.liveness,
            &mut self.timeout,
            &mut self.confirm,
            &mut self.confirm_after_trouble,
            &mut self.quarantine,
        ] {
            *time = (*time).min(LONGEST);
        }
        self
    }
}

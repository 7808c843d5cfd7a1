//! Poll and retry intervals of a file watcher.

use std::time::Duration;

/// Lower bound of all intervals, which prevents a busy loop.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(1);
/// Upper bound of all intervals: 100 years, which can be added to any instant without an overflow.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Intervals that a path watch copies when it is created.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// Time between two polls of a file without kernel events.
    pub(crate) poll: Duration,
    /// Time until inotify is tried again after its limit was reached.
    pub(crate) retry: Duration,
}

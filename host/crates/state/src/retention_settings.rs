//! Retention: which values the store keeps, how many, and for how long.

use std::time::Duration;

/// Limits of the values, revisions and removed sources that the store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Maximum number of stored revisions of each source, including the current one. Default: 20.
    pub max_revisions: u32,
    /// Maximum size of the stored values of each source, in bytes. The current value is always stored.
    /// Default: 16 MiB.
    pub max_history_bytes: u64,
    /// Set if values are stored. If false, only revisions and digests are stored, and a restarted host has
    /// no value until the source is read. A source can turn this off with `store = false`. Default: true.
    pub store_values: bool,
    /// Time after which the state of a source that is no longer configured is deleted. Default: 30 days.
    pub keep_removed: Duration,
    /// Maximum number of stored sources that are no longer configured. The oldest ones are deleted first.
    /// Default: 1000.
    pub max_removed: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_revisions: 20,
            max_history_bytes: 16 << 20,
            store_values: true,
            keep_removed: Duration::from_secs(30 * 24 * 60 * 60),
            max_removed: 1000,
        }
    }
}

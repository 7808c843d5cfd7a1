//! Metrics of a source: lock-free counters and histograms.

use reloader_engine::types::FailureKind;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Counters of one source.
#[derive(Debug, Default)]
pub struct Counters {
    changes: AtomicU64,
    removals: AtomicU64,
    rejected_values: AtomicU64,
    watches: AtomicU64,
    quarantines: AtomicU64,
    denied_accesses: AtomicU64,
    cpu_nanoseconds: AtomicU64,
    read_failures: [AtomicU64; FAILURE_KINDS.len()],
    watch_failures: [AtomicU64; FAILURE_KINDS.len()],
    reads: Histogram,
    reactions: Histogram,
}

/// Snapshot of the [`Counters`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Number of values published.
    pub changes: u64,
    /// Number of removals published.
    pub removals: u64,
    /// Number of values rejected by validation.
    pub rejected_values: u64,
    /// Number of attempts to open a watch, the first one included.
    pub watches: u64,
    /// Number of quarantines after repeated crashes.
    pub quarantines: u64,
    /// Number of accesses denied to the plugin, and of reports that a rate limit delays the plugin.
    pub denied_accesses: u64,
    /// CPU time used by the plugin.
    pub cpu: Duration,
    /// Number of read failures by kind.
    pub read_failures: Vec<(&'static str, u64)>,
    /// Number of watch failures by kind.
    pub watch_failures: Vec<(&'static str, u64)>,
    /// Duration of reads, successful or not.
    pub reads: Distribution,
    /// Time from the first event of a change to the publication of the new value.
    pub reactions: Distribution,
}

/// Distribution of durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Upper bound of each bucket, inclusive, and the number of durations in it. Buckets are not cumulative. The
    /// last one has no upper bound.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// Sum of all durations.
    pub sum: Duration,
}

impl Distribution {
    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// Names of the kinds of failures, as in metrics.
const FAILURE_KINDS: [&str; 5] = ["config", "denied", "transient", "permanent", "crashed"];

/// Returns the index of a kind in [`FAILURE_KINDS`].
fn kind_index(kind: FailureKind) -> usize {
    match kind {
        FailureKind::Config => 0,
        FailureKind::Denied => 1,
        FailureKind::Transient { .. } => 2,
        FailureKind::Permanent => 3,
        FailureKind::Crashed => 4,
    }
}

/// Upper bounds of the histogram buckets, in microseconds. The range covers plugins that answer from memory and servers
/// that answer just before a timeout.
const BUCKET_BOUNDS_MICROS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKET_BOUNDS_MICROS.len() + 1],
    sum_nanoseconds: AtomicU64,
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let nanoseconds = nanoseconds(time);
        let bucket = BUCKET_BOUNDS_MICROS.partition_point(|bound| bound * 1_000 < nanoseconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    fn read(&self) -> Distribution {
        let bounds = BUCKET_BOUNDS_MICROS
            .iter()
            .map(|bound| Some(Duration::from_micros(*bound)))
            .chain([None]);
        Distribution {
            buckets: bounds.zip(self.buckets.iter().map(|count| count.load(Relaxed))).collect(),
            sum: Duration::from_nanos(self.sum_nanoseconds.load(Relaxed)),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn by_kind(counts: &[AtomicU64; FAILURE_KINDS.len()]) -> Vec<(&'static str, u64)> {
    FAILURE_KINDS.into_iter().zip(counts.iter().map(|count| count.load(Relaxed))).collect()
}

impl Counters {
    /// Returns the current counts.
    #[must_use]
    pub fn read(&self) -> Counts {
        Counts {
            changes: self.changes.load(Relaxed),
            removals: self.removals.load(Relaxed),
            rejected_values: self.rejected_values.load(Relaxed),
            watches: self.watches.load(Relaxed),
            quarantines: self.quarantines.load(Relaxed),
            denied_accesses: self.denied_accesses.load(Relaxed),
            cpu: Duration::from_nanos(self.cpu_nanoseconds.load(Relaxed)),
            read_failures: by_kind(&self.read_failures),
            watch_failures: by_kind(&self.watch_failures),
            reads: self.reads.read(),
            reactions: self.reactions.read(),
        }
    }

    pub(crate) fn count_change(&self) {
        self.changes.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_removal(&self) {
        self.removals.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_rejected_value(&self) {
        self.rejected_values.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_watch(&self) {
        self.watches.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_quarantine(&self) {
        self.quarantines.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_read_failure(&self, kind: FailureKind) {
        self.read_failures[kind_index(kind)].fetch_add(1, Relaxed);
    }

    pub(crate) fn count_watch_failure(&self, kind: FailureKind) {
        self.watch_failures[kind_index(kind)].fetch_add(1, Relaxed);
    }

    pub(crate) fn observe_read(&self, time: Duration) {
        self.reads.observe(time);
    }

    pub(crate) fn observe_reaction(&self, time: Duration) {
        self.reactions.observe(time);
    }

    /// Counts a denied access.
    pub fn count_denied_access(&self) {
        self.denied_accesses.fetch_add(1, Relaxed);
    }

    /// Adds CPU time of guest calls.
    pub fn add_cpu_time(&self, time: Duration) {
        self.cpu_nanoseconds.fetch_add(nanoseconds(time), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A duration equal to a bound belongs to its bucket. The last bucket counts all longer ones.
    #[test]
    fn histogram_bounds_are_inclusive() {
        let counters = Counters::default();
        for micros in [1, 100, 101, 20_000_000] {
            counters.observe_read(Duration::from_micros(micros));
        }
        let reads = counters.read().reads;
        assert_eq!(reads.buckets[0], (Some(Duration::from_micros(100)), 2));
        assert_eq!(reads.buckets[1].1, 1);
        assert_eq!(reads.buckets[BUCKET_BOUNDS_MICROS.len()], (None, 1));
        assert_eq!((reads.count(), reads.sum), (4, Duration::from_micros(20_000_202)));
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let counters = Counters::default();
        counters.count_read_failure(FailureKind::Transient { retry_after: None });
        counters.count_read_failure(FailureKind::Crashed);
        counters.count_watch_failure(FailureKind::Denied);
        let counts = counters.read();
        let numbers = |all: &[(&str, u64)]| all.iter().map(|(_, count)| *count).collect::<Vec<_>>();
        assert_eq!(numbers(&counts.read_failures), [0, 0, 1, 0, 1]);
        assert_eq!(numbers(&counts.watch_failures), [0, 1, 0, 0, 0]);
    }
}

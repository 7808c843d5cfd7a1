//! What a source has been through, in numbers. Whoever does something counts it, and nobody waits.

use reloader_engine::types::FailureKind;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Counts what happens to one source.
#[derive(Debug, Default)]
pub struct Counters {
    changes: AtomicU64,
    removals: AtomicU64,
    refused_values: AtomicU64,
    watches: AtomicU64,
    quarantines: AtomicU64,
    refused_accesses: AtomicU64,
    /// In nanoseconds.
    cpu: AtomicU64,
    read_failures: [AtomicU64; KINDS.len()],
    watch_failures: [AtomicU64; KINDS.len()],
    reads: Histogram,
    reactions: Histogram,
}

/// What has been counted up to some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Values that were published.
    pub changes: u64,
    /// How often it was published that there is none any more.
    pub removals: u64,
    /// Values that were not let through.
    pub refused_values: u64,
    /// How often a watch was opened: once, and once more for each time that it was lost.
    pub watches: u64,
    /// How often what crashes all the time was left alone for a while.
    pub quarantines: u64,
    /// How often a plugin was refused something that it is not granted.
    pub refused_accesses: u64,
    /// What its plugin has had of a processor.
    pub cpu: Duration,
    /// Failures to read, by their kind.
    pub read_failures: Vec<(&'static str, u64)>,
    /// Failures to watch, by their kind.
    pub watch_failures: Vec<(&'static str, u64)>,
    /// How long it took to read the source, whatever came of it.
    pub reads: Distribution,
    /// How long it took from the first sign of a change until the new value was published.
    pub reactions: Distribution,
}

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// So many took no longer than this, and longer than what is before. The last one has no end.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// All of them together.
    pub sum: Duration,
}

impl Distribution {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// What failures are called.
const KINDS: [&str; 5] = ["config", "denied", "transient", "permanent", "crashed"];

fn place(kind: FailureKind) -> usize {
    match kind {
        FailureKind::Config => 0,
        FailureKind::Denied => 1,
        FailureKind::Transient { .. } => 2,
        FailureKind::Permanent => 3,
        FailureKind::Crashed => 4,
    }
}

/// In microseconds: from what a plugin takes that answers from its memory to what a server takes that is
/// given up soon.
const BOUNDS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let nanoseconds = nanoseconds(time);
        let bucket = BOUNDS.partition_point(|bound| bound * 1_000 < nanoseconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanoseconds, Relaxed);
    }

    fn read(&self) -> Distribution {
        let bounds = BOUNDS.iter().map(|bound| Some(Duration::from_micros(*bound))).chain([None]);
        Distribution {
            buckets: bounds.zip(self.buckets.iter().map(|count| count.load(Relaxed))).collect(),
            sum: Duration::from_nanos(self.sum.load(Relaxed)),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn by_kind(counts: &[AtomicU64; KINDS.len()]) -> Vec<(&'static str, u64)> {
    KINDS.into_iter().zip(counts.iter().map(|count| count.load(Relaxed))).collect()
}

impl Counters {
    /// What has been counted so far.
    #[must_use]
    pub fn read(&self) -> Counts {
        Counts {
            changes: self.changes.load(Relaxed),
            removals: self.removals.load(Relaxed),
            refused_values: self.refused_values.load(Relaxed),
            watches: self.watches.load(Relaxed),
            quarantines: self.quarantines.load(Relaxed),
            refused_accesses: self.refused_accesses.load(Relaxed),
            cpu: Duration::from_nanos(self.cpu.load(Relaxed)),
            read_failures: by_kind(&self.read_failures),
            watch_failures: by_kind(&self.watch_failures),
            reads: self.reads.read(),
            reactions: self.reactions.read(),
        }
    }

    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Relaxed);
    }

    pub(crate) fn removed(&self) {
        self.removals.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_value(&self) {
        self.refused_values.fetch_add(1, Relaxed);
    }

    pub(crate) fn opened_watch(&self) {
        self.watches.fetch_add(1, Relaxed);
    }

    pub(crate) fn quarantined(&self) {
        self.quarantines.fetch_add(1, Relaxed);
    }

    pub(crate) fn read_failed(&self, kind: FailureKind) {
        self.read_failures[place(kind)].fetch_add(1, Relaxed);
    }

    pub(crate) fn watch_failed(&self, kind: FailureKind) {
        self.watch_failures[place(kind)].fetch_add(1, Relaxed);
    }

    pub(crate) fn took_to_read(&self, time: Duration) {
        self.reads.observe(time);
    }

    pub(crate) fn took_to_react(&self, time: Duration) {
        self.reactions.observe(time);
    }

    /// Counts an access that was denied.
    pub fn refused_access(&self) {
        self.refused_accesses.fetch_add(1, Relaxed);
    }

    /// Adds CPU time of guest calls.
    pub fn computed(&self, time: Duration) {
        self.cpu.fetch_add(nanoseconds(time), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_as_long_as_a_bound_says_is_below_it_and_what_took_longer_than_all_is_counted_too()
    {
        let counters = Counters::default();
        for micros in [1, 100, 101, 20_000_000] {
            counters.took_to_read(Duration::from_micros(micros));
        }
        let reads = counters.read().reads;
        assert_eq!(reads.buckets[0], (Some(Duration::from_micros(100)), 2));
        assert_eq!(reads.buckets[1].1, 1);
        assert_eq!(reads.buckets[BOUNDS.len()], (None, 1));
        assert_eq!((reads.count(), reads.sum), (4, Duration::from_micros(20_000_202)));
    }

    #[test]
    fn failures_are_counted_by_their_kind() {
        let counters = Counters::default();
        counters.read_failed(FailureKind::Transient { retry_after: None });
        counters.read_failed(FailureKind::Crashed);
        counters.watch_failed(FailureKind::Denied);
        let counts = counters.read();
        let of = |all: &[(&str, u64)]| all.iter().map(|(_, count)| *count).collect::<Vec<_>>();
        assert_eq!(of(&counts.read_failures), [0, 0, 1, 0, 1]);
        assert_eq!(of(&counts.watch_failures), [0, 1, 0, 0, 0]);
    }
}

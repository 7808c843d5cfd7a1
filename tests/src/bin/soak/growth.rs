//! Growth of memory, threads and open files: compares the medians of the first and the last quarter of the samples.

use crate::monitor::Sample;
use serde_json::{Value, json};

/// Growth of memory that does not count as a leak: the cache of the state store, buffers of large values, and
/// fragmentation of the allocator. A run of one hour detects a leak of 25 KiB per second.
const ALLOWED_MEMORY_KIB: u64 = 32 << 10;
/// Divisor of the first median of a resource. The resource may grow by the quotient, or by its constant
/// `ALLOWED_…` if that is larger.
const ALLOWED_SHARE: u64 = 10;
/// Allowed growth of the number of threads: the pools for file accesses, sinks and plugins grow with the load, up
/// to a bound.
const ALLOWED_THREADS: u64 = 24;
/// Allowed growth of the number of open files: connections to servers and from clients.
const ALLOWED_OPEN_FILES: u64 = 12;

/// Medians of one resource in the first and in the last quarter of the samples.
#[derive(Debug)]
pub(crate) struct Growth {
    pub(crate) resource: &'static str,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) allowed: u64,
}

impl Growth {
    pub(crate) fn is_flat(&self) -> bool {
        self.last <= self.first + self.allowed
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "first": self.first, "last": self.last, "allowed_growth": self.allowed })
    }
}

/// Returns the growth of each resource in the samples. Returns nothing if there are fewer than four samples.
pub(crate) fn growth(samples: &[Sample]) -> Vec<Growth> {
    let quarter = samples.len() / 4;
    if quarter == 0 {
        return Vec::new();
    }
    let (first, last) = (&samples[..quarter], &samples[samples.len() - quarter..]);
    let grown = |resource, of: fn(&Sample) -> u64, allowed: u64| {
        let (first, last) = (median(first, of), median(last, of));
        Growth { resource, first, last, allowed: allowed.max(first / ALLOWED_SHARE) }
    };
    vec![
        grown("memory in KiB", |sample| sample.resident_kib, ALLOWED_MEMORY_KIB),
        grown("threads", |sample| sample.threads, ALLOWED_THREADS),
        grown("open files", |sample| sample.open_files, ALLOWED_OPEN_FILES),
    ]
}

fn median(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn samples(resident_kib: impl Fn(u64) -> u64) -> Vec<Sample> {
        let sample = |number| Sample {
            at: Instant::now(),
            process: 1,
            resident_kib: resident_kib(number),
            threads: 10,
            open_files: 50,
        };
        (0..100).map(sample).collect()
    }

    fn is_flat(samples: &[Sample]) -> bool {
        growth(samples).iter().all(Growth::is_flat)
    }

    #[test]
    fn constant_memory_with_peaks_is_flat() {
        assert!(is_flat(&samples(|number| if number % 5 == 0 { 500_000 } else { 100_000 })));
    }

    #[test]
    fn steady_growth_is_not_flat() {
        assert!(!is_flat(&samples(|number| 100_000 + number * 1_000)));
    }
}

//! How much of a processor and of the memory an instance has used.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use wasmtime::ResourceLimiter;

/// The time that a call has been on a processor. Waiting does not count, however it is cut up.
#[derive(Debug, Clone, Default)]
pub(super) struct CpuMeter(Arc<Mutex<Cpu>>);

#[derive(Debug, Default)]
struct Cpu {
    used: Duration,
    since: Option<Instant>,
}

impl CpuMeter {
    /// A new call begins.
    pub(super) fn reset(&self) {
        self.with(|cpu| cpu.used = Duration::ZERO);
    }

    /// The call is on a processor from here on.
    pub(super) fn resume(&self) {
        self.with(|cpu| cpu.since = Some(Instant::now()));
    }

    /// The call waits from here on, or has ended.
    pub(super) fn pause(&self) {
        self.with(|cpu| {
            if let Some(since) = cpu.since.take() {
                cpu.used += since.elapsed();
            }
        });
    }

    /// What the call has used so far.
    pub(super) fn used(&self) -> Duration {
        self.with(|cpu| cpu.used + cpu.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// How long the call has been on a processor since it waited, or gave way to others, last.
    pub(super) fn slice(&self) -> Duration {
        self.with(|cpu| cpu.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Cpu) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Limits the memory of an instance, all its linear memories together, and its tables likewise.
#[derive(Debug)]
pub(super) struct MemoryMeter {
    memory: usize,
    table_elements: usize,
}

impl MemoryMeter {
    /// With so much left, in bytes and in elements.
    pub(super) fn new(memory: usize, table_elements: usize) -> Self {
        Self { memory, table_elements }
    }
}

/// Takes what is asked for from what is left, if there is enough.
fn take(left: &mut usize, current: usize, desired: usize) -> bool {
    match left.checked_sub(desired.saturating_sub(current)) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(take(&mut self.memory, current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(take(&mut self.table_elements, current, desired))
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_of_an_instance_share_one_limit() {
        let mut meter = MemoryMeter::new(100, 10);
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 60, None).unwrap());
        assert!(meter.memory_growing(60, 100, None).unwrap());
        assert!(!meter.memory_growing(0, 1, None).unwrap());
        assert!(meter.table_growing(0, 10, None).unwrap());
        assert!(!meter.table_growing(10, 11, None).unwrap());
    }

    #[test]
    fn only_the_time_on_a_processor_counts() {
        let meter = CpuMeter::default();
        assert_eq!(meter.used(), Duration::ZERO);
        meter.resume();
        meter.pause();
        let used = meter.used();
        assert_eq!(meter.used(), used, "it waits");
        meter.reset();
        assert_eq!(meter.used(), Duration::ZERO);
    }
}

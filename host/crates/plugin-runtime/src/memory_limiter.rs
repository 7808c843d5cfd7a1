//! Memory limiter: bounds the memory, the table elements and the number of core instances of a source's instances.

use crate::{address_space, limits::Limits, wasmtime_engine::GROWTH_RESERVATION_BYTES};
use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use wasmtime::ResourceLimiter;

/// Remaining memory of all instances of a source, in bytes. Cheap to clone; clones share one budget.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget(Arc<AtomicUsize>);

impl MemoryBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Returns the number of bytes left in the budget.
    pub(crate) fn remaining(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes bytes from the budget. Returns `false`, and takes nothing, if fewer bytes are left.
    fn take(&self, bytes: usize) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }
}

/// Limiter of one instance: its memory, table elements and number of core instances. Returns the memory to the
/// budget when it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    budget: MemoryBudget,
    /// Number of bytes that this instance has taken from the budget.
    taken: usize,
    /// Bytes of the last growth, which is undone if the system has no memory.
    last_growth: usize,
    /// Number of table elements that the instance may still allocate.
    table_elements: usize,
    instances: usize,
    /// Name of the limit that was reached last.
    reached_limit: Option<&'static str>,
    /// True if the system had no memory for a growth.
    is_system_exhausted: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(budget: MemoryBudget, limits: &Limits) -> Self {
        Self {
            budget,
            taken: 0,
            last_growth: 0,
            table_elements: limits.table_elements.get(),
            instances: limits.instances.get(),
            reached_limit: None,
            is_system_exhausted: false,
        }
    }

    /// Clears the reached limit and the lack of system memory, after a call that completed nevertheless.
    pub(crate) fn clear_reached_limit(&mut self) {
        self.reached_limit = None;
        self.is_system_exhausted = false;
    }

    /// Returns whether the system had no memory for a growth.
    pub(crate) fn is_system_exhausted(&self) -> bool {
        self.is_system_exhausted
    }

    /// Returns the name of the limit that was reached, if any.
    pub(crate) fn reached_limit(&self) -> Option<&'static str> {
        self.reached_limit
    }

    /// Returns all memory of the instance to the budget, for the next instance. The result is the size of that memory,
    /// in bytes. The instance must not be used again.
    pub(crate) fn release(&mut self) -> usize {
        let taken = mem::take(&mut self.taken);
        self.budget.0.fetch_add(taken, Ordering::Relaxed);
        taken
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.release();
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        // A memory that outgrows its reservation is copied to a new reservation, which needs address space for all
        // bytes of the memory.
        let address_space = (desired as u64).saturating_add(GROWTH_RESERVATION_BYTES);
        if address_space::check_available(address_space).is_err() {
            self.is_system_exhausted = true;
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let fits = self.budget.take(more);
        if fits {
            self.taken += more;
            self.last_growth = more;
        } else {
            self.reached_limit = Some("memory");
        }
        Ok(fits)
    }

    /// Returns a granted growth to the budget when the system has no memory for it.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.is_system_exhausted = true;
        let granted = mem::take(&mut self.last_growth).min(self.taken);
        self.taken -= granted;
        self.budget.0.fetch_add(granted, Ordering::Relaxed);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let fits = more <= self.table_elements;
        if fits {
            self.table_elements -= more;
        } else {
            self.reached_limit = Some("table-elements");
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_share_one_memory_budget() {
        let mut limits = Limits::default();
        limits.set("table-elements", "10").unwrap();
        let budget = MemoryBudget::new(100);
        let mut one = MemoryLimiter::new(budget.clone(), &limits);
        assert!(one.memory_growing(0, 60, None).unwrap());
        assert!(!one.memory_growing(0, 60, None).unwrap());
        assert_eq!(one.reached_limit(), Some("memory"));
        let mut other = MemoryLimiter::new(budget, &limits);
        assert!(other.memory_growing(0, 40, None).unwrap());
        assert!(!other.memory_growing(0, 1, None).unwrap());
        drop(one);
        assert!(other.memory_growing(40, 100, None).unwrap());
        assert!(other.table_growing(0, 10, None).unwrap());
        assert!(!other.table_growing(10, 11, None).unwrap());
        assert_eq!(other.reached_limit(), Some("table-elements"));
    }
}

//! Settings of the wasmtime engine: epoch interruption, optimisation, stack sizes, reserved address space.

use crate::address_space;
use wasmtime::{Config, Engine, OptLevel};

/// Address space that an instance reserves for the growth of its memory if the process has a limit. A memory that
/// outgrows it is copied to a larger reservation.
pub(crate) const GROWTH_RESERVATION_BYTES: u64 = 4 << 20;
/// Inaccessible address space on each side of a memory if the process has a limit. Accesses with smaller constant
/// offsets need one comparison only.
const GUARD_BYTES: u64 = 64 << 10;

/// Returns an engine with the settings of the compiler. All cached components depend on them.
///
/// The limit of the process's address space decides about the code. So a compiler process must call this function
/// before it sets a limit of its own.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    engine_within(address_space::limit())
}

/// Returns the engine for a process with this limit of its address space.
fn engine_within(address_space_limit: Option<u64>) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Copy-on-write needs seven mappings an instance, which exceeds `vm.max_map_count` at 9,000 instances.
        .memory_init_cow(false)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20);
    // Without a limit, each memory reserves 4 GiB, so that its accesses need no comparison.
    if address_space_limit.is_some() {
        config
            .memory_reservation(0)
            .memory_reservation_for_growth(GROWTH_RESERVATION_BYTES)
            .memory_guard_size(GUARD_BYTES);
    }
    Engine::new(&config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash, Hasher};

    /// Code for one kind of engine is never loaded into the other one.
    #[test]
    fn address_space_limit_changes_compatibility_hash() {
        let hash = |limit| {
            let engine = engine_within(limit).unwrap();
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_ne!(hash(None), hash(Some(1 << 30)));
        assert_eq!(hash(Some(2 << 30)), hash(Some(1 << 30)), "the amount does not matter");
    }
}

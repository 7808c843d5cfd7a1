//! Settings of the wasmtime engine: epoch interruption, optimisation, stack sizes, reserved address space.

use crate::address_space;
use wasmtime::{Config, Engine, OptLevel};

/// Address space that an instance reserves for the growth of its memory if the address space of the process is limited,
/// in bytes. A memory that outgrows its reservation is copied to a larger one.
pub(crate) const GROWTH_RESERVATION_BYTES: u64 = 4 << 20;
/// Inaccessible address space on each side of a memory if the address space of the process is limited, in bytes. A
/// memory access with a smaller constant offset needs only one bounds check.
const GUARD_BYTES: u64 = 64 << 10;

/// Returns an engine. Compiled components can be loaded only into an engine with the same settings.
///
/// The settings depend on whether the address space of this process is limited. So a compiler process must call this
/// function before it limits its own address space.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    engine_within(address_space::limit())
}

/// Returns the engine for a process with this limit of its address space.
fn engine_within(address_space_limit: Option<u64>) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Copy-on-write needs seven mappings for each instance: 9,000 instances would exceed `vm.max_map_count`.
        .memory_init_cow(false)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20);
    // Without a limit, each memory reserves 4 GiB of address space, so that memory accesses need no bounds check.
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

    /// Code that was compiled with a limited address space is never loaded without a limit, and vice versa.
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

//! Settings of the wasmtime engine: epoch interruption, optimisation, stack sizes.

use wasmtime::{Config, Engine, OptLevel};

/// Returns an engine with the settings of the compiler. All cached components depend on them.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Copy-on-write needs seven mappings an instance, which exceeds `vm.max_map_count` at 9,000 instances.
        .memory_init_cow(false)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20);
    Engine::new(&config)
}

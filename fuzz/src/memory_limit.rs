//! Memory limit for fuzzed code. Allocations are counted, so that the result is the same on every
//! machine.

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Runs a function and checks that its peak memory is at most `limit` bytes.
///
/// # Panics
///
/// If the function uses more memory. The sender of such an input could exhaust the memory of the host.
pub(crate) fn with_memory_limit<T>(limit: usize, run: impl FnOnce() -> T) -> T {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = run();
    let used = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(used <= limit, "{used} bytes of memory used, limit {limit}");
    result
}

//! Memory limit for fuzzed code. Allocations are counted, so that the result is the same on every
//! machine.

use peak_alloc::PeakAlloc;

#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// Runs a function and checks that its peak memory is at most `limit` bytes.
///
/// # Panics
///
/// If it uses more: then the sender of the input controls how much memory the host uses.
pub(crate) fn bounded<T>(limit: usize, run: impl FnOnce() -> T) -> T {
    let before = COUNTED.current_usage();
    COUNTED.reset_peak_usage();
    let result = run();
    let taken = COUNTED.peak_usage().saturating_sub(before);
    assert!(taken <= limit, "it took {taken} bytes of memory, not {limit}");
    result
}

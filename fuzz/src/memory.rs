//! How much memory something takes, counted rather than measured: the same on every machine.

use peak_alloc::PeakAlloc;

#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// Runs something, and holds it to so many bytes of memory.
///
/// # Panics
///
/// When it takes more: then whoever sends the bytes decides how much memory is used.
pub(crate) fn bounded<T>(limit: usize, run: impl FnOnce() -> T) -> T {
    let before = COUNTED.current_usage();
    COUNTED.reset_peak_usage();
    let result = run();
    let taken = COUNTED.peak_usage().saturating_sub(before);
    assert!(taken <= limit, "it took {taken} bytes of memory, not {limit}");
    result
}

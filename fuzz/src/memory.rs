//! How much memory something takes, counted rather than measured: the same on every machine.

use peak_alloc::PeakAlloc;

#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// What a run may take however short its input is.
const BASE: usize = 2 << 20;

/// Runs something that is given `input` bytes, and holds it to `times` as much memory.
///
/// # Panics
///
/// When it takes more: then whoever sends the bytes decides how much memory is used.
pub(crate) fn bounded<T>(input: usize, times: usize, run: impl FnOnce() -> T) -> T {
    let before = COUNTED.current_usage();
    COUNTED.reset_peak_usage();
    let result = run();
    let taken = COUNTED.peak_usage().saturating_sub(before);
    let limit = BASE + times * input;
    assert!(taken <= limit, "{input} bytes of input took {taken} bytes of memory, not {limit}");
    result
}

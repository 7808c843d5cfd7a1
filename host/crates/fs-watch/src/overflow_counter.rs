//! Counter of inotify queue overflows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static OVERFLOWS: AtomicU64 = AtomicU64::new(0);

/// Counts an overflow of an inotify event queue.
#[cfg(target_os = "linux")]
pub(crate) fn increment() {
    OVERFLOWS.fetch_add(1, Relaxed);
}

/// Returns the number of inotify queue overflows since the start of the process.
///
/// The kernel drops events when its queue is full. After each overflow, every watched path is
/// resolved again and reported as changed.
#[must_use]
pub fn overflows() -> u64 {
    OVERFLOWS.load(Relaxed)
}

//! How often the kernel could not tell of all changes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static OVERFLOWS: AtomicU64 = AtomicU64::new(0);

/// Once more.
#[cfg(target_os = "linux")]
pub(crate) fn count() {
    OVERFLOWS.fetch_add(1, Relaxed);
}

/// How often more files of this program's have changed than the kernel could tell, so that all of them were
/// looked at again.
#[must_use]
pub fn overflows() -> u64 {
    OVERFLOWS.load(Relaxed)
}

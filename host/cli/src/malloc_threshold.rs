//! Setting of the memory allocator: freed buffers of large values are returned to the system.

/// Size from which the allocator returns a freed buffer to the system immediately, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const RETURNED_BUFFER_BYTES: i32 = 1 << 20;

/// Fixes the `mmap` threshold of glibc's allocator. By default the threshold grows with the largest buffer that was
/// freed, and the memory of large values then stays with the process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn return_large_buffers() {
    #[allow(
        unsafe_code,
        reason = "`mallopt` has no safe wrapper; it is called before any other thread exists"
    )]
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_BUFFER_BYTES) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn return_large_buffers() {}

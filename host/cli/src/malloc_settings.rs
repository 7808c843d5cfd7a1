//! Settings of the memory allocator of glibc: freed buffers of large values are returned to the system, and arenas fit
//! into a limited address space.

/// Size from which the allocator returns a freed buffer to the system immediately, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const RETURNED_BUFFER_BYTES: i32 = 1 << 20;
/// Maximum number of arenas in a limited address space. Each arena reserves 64 MiB. The default is eight arenas for each
/// processor.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAX_ARENAS: i32 = 2;

/// Configures the allocator. Must be called before any other thread exists.
///
/// Fixes the `mmap` threshold. By default the threshold grows with the largest buffer that was freed, and the memory of
/// large values then stays with the process. With a limit of the address space (`ulimit -v`), also bounds the number of
/// arenas.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn configure_malloc() {
    use rustix::process::{Resource, getrlimit};
    set(libc::M_MMAP_THRESHOLD, RETURNED_BUFFER_BYTES);
    if getrlimit(Resource::As).current.is_some() {
        set(libc::M_ARENA_MAX, MAX_ARENAS);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(parameter: i32, value: i32) {
    #[allow(
        unsafe_code,
        reason = "`mallopt` has no safe wrapper; it is called before any other thread exists"
    )]
    let _ = unsafe { libc::mallopt(parameter, value) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn configure_malloc() {}

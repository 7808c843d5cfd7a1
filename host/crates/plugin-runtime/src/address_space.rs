//! Limit of this process's address space (`ulimit -v`, `LimitAS=`).

use std::{fmt, io};

/// Address space that is reserved for the heap and the threads of the host, in bytes. Memories of plugins cannot use
/// the reserve: if the host could not allocate memory, it would abort.
const HOST_RESERVE_BYTES: u64 = 64 << 20;

/// Returns the limit of this process's address space, in bytes; `None` without a limit.
pub(crate) fn limit() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::As).current;
    #[cfg(not(unix))]
    None
}

/// Checks that this many bytes of address space are available, in addition to the reserve of the host.
///
/// # Errors
///
/// [`Exhausted`], which names the limit.
pub(crate) fn check_available(bytes: u64) -> Result<(), Exhausted> {
    match limit() {
        Some(limit) if !is_available(bytes, limit, used().ok()) => Err(Exhausted { limit }),
        _ => Ok(()),
    }
}

fn is_available(bytes: u64, limit: u64, used: Option<u64>) -> bool {
    let needed = bytes.saturating_add(HOST_RESERVE_BYTES);
    used.is_none_or(|used| limit.saturating_sub(used) >= needed)
}

/// Returns the address space that this process uses, in bytes.
fn used() -> io::Result<u64> {
    /// Position of `vsize` among the fields after the name of the program; see proc_pid_stat(5).
    const VSIZE: usize = 20;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let size = fields.split(' ').nth(VSIZE).and_then(|size| size.parse().ok());
    size.ok_or_else(|| io::Error::other("unknown format of /proc/self/stat"))
}

/// Error of an allocation for which this process has too little address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// Maximum address space of the process, in bytes.
    pub(crate) limit: u64,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit >> 10;
        write!(
            f,
            "the address space of this process is limited to {limit} KiB; hint: raise `ulimit -v` or `LimitAS=`"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_of_host_is_not_available() {
        let limit = 1 << 30;
        let used = limit - HOST_RESERVE_BYTES - 100;
        assert!(is_available(100, limit, Some(used)));
        assert!(!is_available(101, limit, Some(used)));
        assert!(!is_available(0, limit, Some(limit)));
        assert!(is_available(101, limit, None), "unknown usage");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn used_address_space_includes_new_allocation() {
        const BYTES: usize = 256 << 20;
        let before = used().unwrap();
        let allocation = Vec::<u8>::with_capacity(BYTES);
        assert!(used().unwrap() >= before + BYTES as u64, "{before}");
        drop(allocation);
    }
}

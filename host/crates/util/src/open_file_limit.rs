//! Open-file limit (`RLIMIT_NOFILE`) of this process and of the commands that it starts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::OnceLock;

/// Limit of this process before it was raised.
static INITIAL: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of this process to its hard limit, if the system permits it.
///
/// Child processes that [`child_process::spawn`](crate::child_process::spawn) starts get the initial limit on Linux:
/// some programs handle only file descriptors below 1024 (`select`), or close all of them up to the limit.
pub fn raise() {
    let initial = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: initial.maximum, maximum: initial.maximum };
    if initial.current != initial.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        let _ = INITIAL.set(initial);
    }
}

/// Restores the initial limit in a forked child. Makes one system call and allocates nothing.
#[cfg(target_os = "linux")]
pub(crate) fn restore_in_child() {
    if let Some(initial) = INITIAL.get() {
        let _ = setrlimit(Resource::Nofile, *initial);
    }
}

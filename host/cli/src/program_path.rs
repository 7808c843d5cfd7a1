//! Path of this program, to start it again as the child of PID 1 or as the compiler process.

use std::path::PathBuf;

/// Returns the path of this program. On Linux, the path stays valid after the file is replaced by an update.
pub(crate) fn program_path() -> Option<PathBuf> {
    let this = PathBuf::from("/proc/self/exe");
    if this.exists() { Some(this) } else { std::env::current_exe().ok() }
}

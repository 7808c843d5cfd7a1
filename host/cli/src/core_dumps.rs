//! Disables core dumps of the host, since they would contain secrets.

use crate::command_line::Command;

impl Command {
    /// Disables core dumps of this process, and access of other processes of the same user to its memory, unless
    /// `--enable-core-dumps` is given. Child processes are not affected: `execve` enables both again.
    pub(crate) fn disable_core_dumps(&self) {
        let is_kept = match self {
            Self::Run(run) => run.enables_core_dumps(),
            // The compiler process has no secrets. It writes to its own files in `/proc`, which belong to root while
            // core dumps are disabled.
            Self::Compile { .. } => true,
            _ => false,
        };
        #[cfg(target_os = "linux")]
        if !is_kept {
            use rustix::process::{DumpableBehavior, set_dumpable_behavior};
            let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = is_kept;
    }
}

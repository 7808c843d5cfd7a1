//! Core dumps of the host are off, since they would contain secrets.

use crate::command_line::Command;

impl Command {
    /// Disables core dumps of this process, and access of other processes of the same user to its memory, unless an
    /// argument enables them. Child processes are not affected: executing a program resets this.
    pub(crate) fn disable_core_dumps(&self) {
        let is_kept = match self {
            Self::Run(run) => run.enables_core_dumps(),
            // Has no secrets, and writes to its own files in `/proc`, which would belong to root.
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

//! Process that holds the lock of the state directory, for the error message of another host.

use std::{fmt, fs::File};

/// Process that holds the lock of the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockHolder {
    /// Running host with this process ID.
    Host(u32),
    /// Process that has the lock file open, usually a child process of a host that has ended.
    Process {
        /// Process ID.
        pid: u32,
        /// Name of its program.
        program: String,
    },
    /// Process that this host cannot identify. Contains the process ID in the lock file, if there is one.
    Unknown(Option<u32>),
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OTHER_PATH: &str = "or set a different `path` in `[state]`";
        match self {
            Self::Host(pid) => write!(
                f,
                "is in use by another host (process {pid}); hint: stop that host, {OTHER_PATH}"
            ),
            Self::Process { pid, program } => write!(
                f,
                "is locked by process {pid} (`{program}`), which a host that has ended may have started; hint: \
                 stop that process, {OTHER_PATH}"
            ),
            Self::Unknown(pid) => {
                f.write_str("is in use by another host")?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid}, which is not visible here: another container?)")?;
                }
                write!(f, "; hint: stop that host, {OTHER_PATH}")
            }
        }
    }
}

impl LockHolder {
    /// Identifies the holder of `lock`. `recorded` is the process ID in the lock file.
    pub(crate) fn find(lock: &File, recorded: Option<u32>) -> Self {
        if let Some(pid) = recorded
            && processes::may_have_open(pid, lock)
        {
            return Self::Host(pid);
        }
        match processes::with_open(lock) {
            Some((pid, program)) => Self::Process { pid, program },
            None => Self::Unknown(recorded),
        }
    }
}

/// Processes and their open files, from `/proc`.
#[cfg(target_os = "linux")]
mod processes {
    use reloader_util::sanitize::sanitize;
    use std::{
        fs::{self, File},
        io,
        os::unix::fs::MetadataExt as _,
    };

    /// Returns whether a process exists and has this file open, or does not show its files.
    pub(super) fn may_have_open(pid: u32, file: &File) -> bool {
        match has_open(pid, file) {
            Ok(has_open) => has_open,
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        }
    }

    /// Returns another process that has this file open, and the name of its program.
    pub(super) fn with_open(file: &File) -> Option<(u32, String)> {
        let pids = fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mut others = pids.filter(|pid| *pid != std::process::id());
        let pid = others.find(|pid| has_open(*pid, file).unwrap_or(false))?;
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some((pid, sanitize(program.trim())))
    }

    fn has_open(pid: u32, file: &File) -> io::Result<bool> {
        let inode = file.metadata().map(|file| (file.dev(), file.ino()))?;
        let mut descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?;
        Ok(descriptors.any(|descriptor| {
            descriptor
                .and_then(|descriptor| fs::metadata(descriptor.path()))
                .is_ok_and(|open| (open.dev(), open.ino()) == inode)
        }))
    }
}

#[cfg(not(target_os = "linux"))]
mod processes {
    use std::fs::File;

    pub(super) fn may_have_open(_: u32, _: &File) -> bool {
        true
    }

    pub(super) fn with_open(_: &File) -> Option<(u32, String)> {
        None
    }
}

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
                    write!(f, " (process {pid}, probably in another container)")?;
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
        os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
        path::PathBuf,
    };

    /// Returns whether a process exists and has this file open. A process whose open files this host may not list
    /// counts as having the file open.
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
        Ok(descriptors_of_same_name(pid, file)?.any(|descriptor| {
            fs::metadata(descriptor).is_ok_and(|open| (open.dev(), open.ino()) == inode)
        }))
    }

    /// Returns the links in `/proc/PID/fd` to open files with the file name of `file`, in any directory: another
    /// container sees the file at another path. The caller accesses only these files, since the file systems of the
    /// other open files may not respond.
    fn descriptors_of_same_name(
        pid: u32,
        file: &File,
    ) -> io::Result<impl Iterator<Item = PathBuf> + use<>> {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?;
        let descriptors = descriptors.filter_map(|descriptor| Some(descriptor.ok()?.path()));
        Ok(descriptors.filter(move |descriptor| {
            fs::read_link(descriptor).is_ok_and(|open| open.file_name() == path.file_name())
        }))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn files_with_other_names_are_not_examined() -> io::Result<()> {
            let directory = tempfile::tempdir()?;
            let create = |name| File::create(directory.path().join(name));
            let [lock, other] = [create("lock holder test")?, create("other")?];
            let pid = std::process::id();
            let link = |file: &File| PathBuf::from(format!("/proc/{pid}/fd/{}", file.as_raw_fd()));
            let examined: Vec<_> = descriptors_of_same_name(pid, &lock)?.collect();
            assert!(examined.contains(&link(&lock)) && !examined.contains(&link(&other)));
            assert!(has_open(pid, &lock)?);
            let deleted = create("deleted")?;
            fs::remove_file(directory.path().join("deleted"))?;
            assert!(has_open(pid, &deleted)?);
            Ok(())
        }
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

//! Small file system for the state of the host, which can be filled up.

use e2e::skip;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::{
    ffi::CString,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// Size of the file system in MiB.
const SIZE_MIB: usize = 96;

/// Temporary file system in memory. It is unmounted on drop.
pub(crate) struct StateDisk(PathBuf);

impl StateDisk {
    /// Mounts the file system. Returns `None` and prints the reason if mounting is not permitted.
    pub(crate) fn mount(directory: &Path) -> Option<Self> {
        let options = CString::new(format!("size={SIZE_MIB}m,mode=0700")).expect("no zero byte");
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        match mount("soak-state", directory, "tmpfs", flags, options.as_c_str()) {
            Ok(()) => Some(Self(directory.into())),
            Err(error) => {
                skip(&format!("faults of a full disk: cannot mount a file system: {error}"));
                None
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Occupies all free space.
    pub(crate) fn fill(&self) {
        let Ok(mut file) = File::create(self.filler()) else { return };
        let mut block = vec![0; 64 << 10];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
    }

    /// Releases the occupied space.
    pub(crate) fn release(&self) {
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for StateDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

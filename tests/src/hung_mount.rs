//! File system that never answers, such as a network file system whose server hangs.

use crate::{fuse_server::answer_until_read, requirements::skip};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::{
    fs::{File, OpenOptions},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    thread,
};

/// FUSE mount whose server never reads a request: each access to a file below the mount blocks.
///
/// Dropping this value ends blocked accesses with an error. Until then, only `SIGKILL` ends a process with a blocked
/// access.
#[derive(Debug)]
pub struct HungMount {
    directory: PathBuf,
    /// `/dev/fuse` connection to the kernel. Closing it ends all blocked accesses.
    server: Option<File>,
}

impl HungMount {
    /// Mounts the file system over a directory. Returns `None` and [skips](skip) the test if mounting is not permitted.
    ///
    /// Files below the directory become inaccessible until the mount is dropped.
    pub fn over(directory: &Path) -> Option<Self> {
        let server = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let mounted = server.and_then(|server| {
            let options = format!(
                "fd={},rootmode=40000,user_id=0,group_id=0,allow_other\0",
                server.as_raw_fd()
            );
            let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes())
                .map_err(std::io::Error::other)?;
            mount("hung", directory, "fuse", MountFlags::NODEV | MountFlags::NOSUID, options)?;
            Ok(server)
        });
        match mounted {
            Ok(server) => Some(Self { directory: directory.into(), server: Some(server) }),
            Err(error) => {
                skip(&format!("cannot mount a FUSE file system: {error}"));
                None
            }
        }
    }

    /// Mounts a file system that answers until a file is read: a read has the file open, and blocks. Each name is a
    /// regular file. Returns `None` and [skips](skip) the test if mounting is not permitted.
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be started.
    #[must_use]
    pub fn at_first_read(directory: &Path) -> Option<Self> {
        let mount = Self::over(directory)?;
        let server = mount.server.as_ref().expect("the server runs until the drop");
        let server = server.try_clone().expect("a file can be duplicated");
        thread::spawn(move || answer_until_read(server));
        Some(mount)
    }

    /// Returns the directory on which the file system is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        drop(self.server.take());
        // After the unmount, accesses reach the directory under the mount again.
        let _ = unmount(&self.directory, UnmountFlags::DETACH);
    }
}

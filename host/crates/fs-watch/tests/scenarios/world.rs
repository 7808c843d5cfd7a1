//! Temporary directory of a scenario, and the operations on its files.
//!
//! Names are relative to that directory.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Temporary directory with one watched path. Dropping the world ends its child process and removes
/// its mounts.
pub struct World {
    root: tempfile::TempDir,
    watched: PathBuf,
    mounts: Vec<PathBuf>,
    open_file: Option<File>,
    child: Option<Child>,
}

impl World {
    /// Creates an empty directory. The watched path is `f`.
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let watched = root.path().join("f");
        Self { root, watched, mounts: Vec::new(), open_file: None, child: None }
    }

    /// Returns the watched path.
    pub fn path(&self) -> &Path {
        &self.watched
    }

    /// Returns the path of `name` in the directory. An absolute path is returned unchanged.
    pub fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Returns the current content of the watched path.
    pub fn content(&self) -> Option<Vec<u8>> {
        fs::read(&self.watched).ok()
    }

    /// Sets the watched path.
    pub fn watch(&mut self, name: &str) {
        self.watched = self.at(name);
    }

    /// Creates a directory and its parents.
    pub fn create_dir(&self, name: &str) {
        fs::create_dir_all(self.at(name)).unwrap();
    }

    /// Truncates and writes a file in place.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.at(name), content).unwrap();
    }

    /// Writes a new file and renames it over `name`.
    pub fn replace(&self, name: &str, content: &str) {
        let new = self.at(&format!("{name}.new"));
        fs::write(&new, content).unwrap();
        fs::rename(new, self.at(name)).unwrap();
    }

    /// Appends to a file and closes it.
    pub fn append(&self, name: &str, content: &str) {
        let mut file = OpenOptions::new().append(true).open(self.at(name)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
    }

    /// Appends to a file and keeps it open for the next call.
    pub fn append_keep_open(&mut self, name: &str, content: &str) {
        let path = self.at(name);
        let open = || OpenOptions::new().append(true).create(true).open(path).unwrap();
        self.open_file.get_or_insert_with(open).write_all(content.as_bytes()).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.at(name)).unwrap();
    }

    pub fn remove_all(&self, name: &str) {
        fs::remove_dir_all(self.at(name)).unwrap();
    }

    /// Creates a hard link `to` to the file `from`.
    pub fn hard_link(&self, from: &str, to: &str) {
        fs::hard_link(self.at(from), self.at(to)).unwrap();
    }

    /// Creates a symbolic link under a temporary name and renames it over `name`, as `ln -sfn`
    /// does.
    pub fn symlink(&self, target: &str, name: &str) {
        let new = self.at(&format!("{name}.link"));
        symlink(target, &new).unwrap();
        fs::rename(new, self.at(name)).unwrap();
    }

    /// Publishes a version of a volume as Kubernetes does: creates its directory and replaces the
    /// link `..data`.
    pub fn publish_volume(&self, version: &str, content: &str) {
        self.create_dir(version);
        self.write(&format!("{version}/f"), content);
        self.symlink(version, "..data");
    }

    pub fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
    }

    /// Bind-mounts `from` on `to`. Both must exist.
    pub fn bind_mount(&mut self, from: &str, to: &str) {
        let from = self.at(from);
        assert!(self.try_mount(&["--bind", from.to_str().unwrap()], to), "cannot mount");
    }

    /// Mounts a `tmpfs` on a directory.
    pub fn mount_tmpfs(&mut self, on: &str) {
        assert!(self.try_mount(&["-t", "tmpfs", "tmpfs"], on), "cannot mount");
    }

    /// Exports the directory `from` at `to` through FUSE.
    pub fn mount_bindfs(&mut self, from: &str, to: &str) {
        assert!(self.try_bindfs(from, to), "cannot run bindfs");
    }

    /// Unmounts the latest mount on `name`.
    pub fn unmount(&mut self, name: &str) {
        let path = self.at(name);
        let last = self.mounts.iter().rposition(|mount| *mount == path).unwrap();
        unmount(&self.mounts.remove(last));
    }

    /// Starts a shell and watches its name in `/proc`.
    pub fn start_process(&mut self) {
        let child = Command::new("sh")
            .args(["-c", "read line; exec sleep 1000"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        self.watched = format!("/proc/{}/comm", child.id()).into();
        self.child = Some(child);
        let path = self.watched.clone();
        wait_until("the shell runs", || fs::read(&path).is_ok_and(|name| name == b"sh\n"));
    }

    /// Lets the shell execute `sleep`, which changes its name in `/proc`.
    pub fn rename_process(&mut self) {
        let child = self.child.as_mut().unwrap();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let path = &self.watched;
        wait_until("the process has another name", || {
            fs::read(path).is_ok_and(|name| name != b"sh\n")
        });
    }

    /// Runs `mount` and returns whether it succeeded.
    pub fn try_mount(&mut self, options: &[&str], on: &str) -> bool {
        let on = self.at(on);
        let mut command = Command::new("mount");
        let status = command.args(options).arg(&on).stderr(Stdio::null()).status();
        let succeeded = status.is_ok_and(|status| status.success());
        if succeeded {
            self.mounts.push(on);
        }
        succeeded
    }

    /// Runs `bindfs` and returns whether it succeeded.
    pub fn try_bindfs(&mut self, from: &str, to: &str) -> bool {
        let (from, to) = (self.at(from), self.at(to));
        let mut command = Command::new("bindfs");
        // Disables the attribute and entry caches, so that FUSE behaves like a network file system.
        let options = ["-o", "attr_timeout=0,entry_timeout=0"];
        let status = command.args(options).arg(from).arg(&to).stderr(Stdio::null()).status();
        let succeeded = status.is_ok_and(|status| status.success());
        if succeeded {
            self.mounts.push(to);
        }
        succeeded
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.open_file = None;
        while let Some(mount) = self.mounts.pop() {
            unmount(&mount);
        }
    }
}

/// Unmounts lazily, as files on the mount may be open.
fn unmount(path: &Path) {
    let status = Command::new("umount").arg("-l").arg(path).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot unmount {}", path.display());
}

fn wait_until(description: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "timeout: {description}");
        thread::sleep(Duration::from_millis(1));
    }
}

//! The directory in which a scenario happens, and what can be done in it.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A directory in which things change, with one path that is watched.
pub struct World {
    root: tempfile::TempDir,
    watched: PathBuf,
    mounts: Vec<PathBuf>,
    open: Option<File>,
    child: Option<Child>,
}

impl World {
    /// An empty directory; the path is `f` in it.
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let watched = root.path().join("f");
        Self { root, watched, mounts: Vec::new(), open: None, child: None }
    }

    /// The path that is watched.
    pub fn path(&self) -> &Path {
        &self.watched
    }

    /// A path in this world; or an absolute one, as it is.
    pub fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// What the watched path holds now.
    pub fn content(&self) -> Option<Vec<u8>> {
        fs::read(&self.watched).ok()
    }

    pub fn watch(&mut self, name: &str) {
        self.watched = self.at(name);
    }

    pub fn directory(&self, name: &str) {
        fs::create_dir_all(self.at(name)).unwrap();
    }

    /// Truncates and writes, in place.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.at(name), content).unwrap();
    }

    /// Writes another file and renames it over this one.
    pub fn replace(&self, name: &str, content: &str) {
        let new = self.at(&format!("{name}.new"));
        fs::write(&new, content).unwrap();
        fs::rename(new, self.at(name)).unwrap();
    }

    pub fn append(&self, name: &str, content: &str) {
        let mut file = OpenOptions::new().append(true).open(self.at(name)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
    }

    /// Appends, and keeps the file open.
    pub fn keep_writing(&mut self, name: &str, content: &str) {
        let path = self.at(name);
        let open = || OpenOptions::new().append(true).create(true).open(path).unwrap();
        self.open.get_or_insert_with(open).write_all(content.as_bytes()).unwrap();
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

    pub fn link(&self, from: &str, to: &str) {
        fs::hard_link(self.at(from), self.at(to)).unwrap();
    }

    /// A link that is made elsewhere and renamed to its place, as `ln -sfn` does.
    pub fn symlink(&self, target: &str, name: &str) {
        let new = self.at(&format!("{name}.link"));
        symlink(target, &new).unwrap();
        fs::rename(new, self.at(name)).unwrap();
    }

    /// A new version of a volume, as Kubernetes makes it: a directory, and the link `..data` to it.
    pub fn volume(&self, version: &str, content: &str) {
        self.directory(version);
        self.write(&format!("{version}/f"), content);
        self.symlink(version, "..data");
    }

    pub fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
    }

    /// Mounts one path on another, which are both there.
    pub fn bind(&mut self, from: &str, to: &str) {
        let from = self.at(from);
        assert!(self.try_mount(&["--bind", from.to_str().unwrap()], to), "cannot mount");
    }

    pub fn tmpfs(&mut self, on: &str) {
        assert!(self.try_mount(&["-t", "tmpfs", "tmpfs"], on), "cannot mount");
    }

    pub fn bindfs(&mut self, from: &str, to: &str) {
        assert!(self.try_bindfs(from, to), "cannot run bindfs");
    }

    pub fn unmount(&mut self, name: &str) {
        let path = self.at(name);
        let last = self.mounts.iter().rposition(|mount| *mount == path).unwrap();
        unmount(&self.mounts.remove(last));
    }

    /// A process whose name, which `/proc` shows, changes when it is told to go on.
    pub fn process(&mut self) {
        let child = Command::new("sh")
            .args(["-c", "read line; exec sleep 1000"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        self.watched = format!("/proc/{}/comm", child.id()).into();
        self.child = Some(child);
        let path = self.watched.clone();
        eventually("the shell runs", || fs::read(&path).is_ok_and(|name| name == b"sh\n"));
    }

    pub fn go_on(&mut self) {
        let child = self.child.as_mut().unwrap();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let path = &self.watched;
        eventually("it has another name", || fs::read(path).is_ok_and(|name| name != b"sh\n"));
    }

    pub fn try_mount(&mut self, what: &[&str], on: &str) -> bool {
        let on = self.at(on);
        let mut command = Command::new("mount");
        let done = command.args(what).arg(&on).stderr(Stdio::null()).status();
        let done = done.is_ok_and(|status| status.success());
        if done {
            self.mounts.push(on);
        }
        done
    }

    pub fn try_bindfs(&mut self, from: &str, to: &str) -> bool {
        let (from, to) = (self.at(from), self.at(to));
        let mut command = Command::new("bindfs");
        // It keeps nothing, so that each look asks anew, as on a network.
        let options = ["-o", "attr_timeout=0,entry_timeout=0"];
        let done = command.args(options).arg(from).arg(&to).stderr(Stdio::null()).status();
        let done = done.is_ok_and(|status| status.success());
        if done {
            self.mounts.push(to);
        }
        done
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.open = None;
        while let Some(mount) = self.mounts.pop() {
            unmount(&mount);
        }
    }
}

/// Lazily: somebody may be reading there.
fn unmount(path: &Path) {
    let status = Command::new("umount").arg("-l").arg(path).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot unmount {}", path.display());
}

fn eventually(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

//! Limit of concurrent accesses to one file system, so that a file system that does not answer does not occupy all
//! threads.

use reloader_util::sync::Mutex;
use std::{
    collections::HashMap,
    path::{Path, PathBuf, absolute},
    sync::{Arc, Weak},
};
use tokio::sync::Semaphore;

/// Maximum number of concurrent accesses to one file system, or to one directory of the root file system.
pub(crate) const MAX_ACCESSES_PER_FILE_SYSTEM: usize = 64;
/// Minimum number of keys in [`SLOTS`] at which unused keys, those without running accesses, are removed.
const MIN_PRUNED_KEYS: usize = 1024;

/// Slots of all file systems. The key is a mount point, or a directory of the root file system.
static SLOTS: Mutex<Option<Slots>> = Mutex::new(None);

#[derive(Debug, Default)]
struct Slots {
    by_key: HashMap<PathBuf, Weak<Semaphore>>,
    /// Number of keys at which unused keys are removed the next time.
    prune_at: usize,
}

/// Returns the slots of the file system of `path`, as a semaphore.
///
/// The deepest mount point at or above the path identifies the file system. Symbolic links on local file systems are
/// followed, others are not, since that may block. On the root file system, only files of the same directory share slots.
#[must_use]
pub fn slots_of(path: &Path) -> Arc<Semaphore> {
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    let key = mount_point_of(&path);
    let key = key.unwrap_or_else(|| path.parent().unwrap_or(&path).to_owned());
    let mut slots = SLOTS.lock();
    slots.get_or_insert_default().get(key)
}

impl Slots {
    fn get(&mut self, key: PathBuf) -> Arc<Semaphore> {
        if let Some(slots) = self.by_key.get(&key).and_then(Weak::upgrade) {
            return slots;
        }
        if self.by_key.len() >= self.prune_at.max(MIN_PRUNED_KEYS) {
            self.by_key.retain(|_, slots| slots.strong_count() > 0);
            self.prune_at = 2 * self.by_key.len();
        }
        let slots = Arc::new(Semaphore::new(MAX_ACCESSES_PER_FILE_SYSTEM));
        self.by_key.insert(key, Arc::downgrade(&slots));
        slots
    }
}

/// Returns the mount point of the file system of `path`; `None` if it is the root directory.
#[cfg(target_os = "linux")]
fn mount_point_of(path: &Path) -> Option<PathBuf> {
    crate::mount_point_of_path::mount_of(path).filter(|point| point.parent().is_some())
}

#[cfg(not(target_os = "linux"))]
fn mount_point_of(_path: &Path) -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_directory_share_slots() {
        let directory = tempfile::tempdir().unwrap();
        let a = slots_of(&directory.path().join("a"));
        assert!(Arc::ptr_eq(&a, &slots_of(&directory.path().join("b"))));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn files_below_a_mount_point_share_slots() {
        let a = slots_of(Path::new("/proc/self/status"));
        assert!(Arc::ptr_eq(&a, &slots_of(Path::new("/proc/mounts"))));
        assert!(!Arc::ptr_eq(&a, &slots_of(Path::new("/x"))));
    }

    /// Links to a file system that does not answer must not take the slots of the other files in their directory.
    #[cfg(target_os = "linux")]
    #[test]
    fn link_uses_slots_of_its_target() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("/proc", path("proc")).unwrap();
        std::os::unix::fs::symlink("proc/self/../mounts", path("mounts")).unwrap();
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        let proc = slots_of(Path::new("/proc/mounts"));
        assert!(Arc::ptr_eq(&proc, &slots_of(&path("mounts"))));
        assert!(Arc::ptr_eq(&proc, &slots_of(&path("proc/uptime"))));
        for other in ["file", "loop"] {
            assert!(!Arc::ptr_eq(&proc, &slots_of(&path(other))), "{other}");
        }
    }

    #[test]
    fn keys_without_accesses_are_removed() {
        let mut slots = Slots::default();
        let held = slots.get("/held".into());
        for number in 0..3 * MIN_PRUNED_KEYS {
            slots.get(format!("/{number}").into());
        }
        assert!(slots.by_key.len() <= MIN_PRUNED_KEYS);
        assert!(Arc::ptr_eq(&held, &slots.get("/held".into())));
    }
}

//! Mount point of the file system to which a path leads through symbolic links, without an access that may block for long.

use crate::mount_watch::{Mount, mounts};
use reloader_util::sync::Mutex;
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2, readlinkat},
    io::Errno,
};
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Time after which the mount table is read again.
const MAX_TABLE_AGE: Duration = Duration::from_secs(1);
/// Maximum number of symbolic links that the kernel follows in a path.
const MAX_LINKS: usize = 40;

/// Returns the mount point of the file system of `path`, an absolute path. Follows symbolic links up to the first file
/// system that is not local.
pub(crate) fn mount_of(path: &Path) -> Option<PathBuf> {
    let mounts = recent_mounts();
    let mut resolved = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(path).collect();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            resolved.pop();
            continue;
        }
        resolved.push(&name);
        let mount = mount_above(&mounts, &resolved)?;
        if !mount.is_local {
            return Some(mount.point.clone());
        }
        let Some(target) = read_link(&resolved, mount) else { continue };
        links += 1;
        if links > MAX_LINKS {
            break;
        }
        resolved.pop();
        if target.is_absolute() {
            resolved = PathBuf::from("/");
        }
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            rest.push_front(name);
        }
    }
    Some(mount_above(&mounts, &resolved)?.point.clone())
}

/// Returns the names of a path, including `..`.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn mount_above<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.as_os_str().len())
}

/// Returns the target of a symbolic link on a local file system; `None` for other files. A link that is not in the
/// kernel's cache is read on the root file system only: the disk of another one may not answer.
fn read_link(path: &Path, mount: &Mount) -> Option<PathBuf> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |resolve| openat2(CWD, path, flags, Mode::empty(), resolve);
    let link = match open(ResolveFlags::CACHED) {
        // Fails at a file system that was mounted after the mount table was read.
        Err(Errno::AGAIN) if mount.point.parent().is_none() => open(ResolveFlags::NO_XDEV),
        opened => opened,
    };
    let target = readlinkat(link.ok()?, "", Vec::new()).ok()?;
    Some(OsString::from_vec(target.into_bytes()).into())
}

fn recent_mounts() -> Arc<[Mount]> {
    static MOUNTS: Mutex<Option<(Instant, Arc<[Mount]>)>> = Mutex::new(None);

    let mut cached = MOUNTS.lock();
    match &*cached {
        Some((at, mounts)) if at.elapsed() < MAX_TABLE_AGE => Arc::clone(mounts),
        _ => {
            let mounts: Arc<[Mount]> = mounts().unwrap_or_default().into();
            *cached = Some((Instant::now(), Arc::clone(&mounts)));
            mounts
        }
    }
}

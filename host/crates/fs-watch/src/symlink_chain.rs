//! Resolution of a path through symbolic links into the directory entries that it depends on.

use crate::{file_fingerprint::identity, filesystem_kind::FilesystemKind};
use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::Metadata,
    io,
    path::{Component, Path, PathBuf},
};

/// Maximum number of symbolic links that are followed in one path, as in Linux.
const MAX_SYMLINKS: usize = 40;

/// Directory entry that a path resolves through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) directory: PathBuf,
    pub(crate) name: OsString,
    pub(crate) role: Role,
}

/// Part of a path resolution that a watch covers. The role decides the effect of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Entry of an intermediate directory or symbolic link. After a change, the path may resolve to
    /// another file.
    Intermediate,
    /// Entry of the file, or the entry under which the file would be created.
    Final,
    /// Inode of a file that is reachable through another path as well: a hard link or a mount. The
    /// directory watch does not report writes through that path.
    Inode,
    /// Inode of a file with one path. Its watch reports a new hard link.
    LinkCount,
}

impl Role {
    /// Returns whether the directory of the entry is watched instead of the inode of the file.
    pub(crate) fn is_directory_entry(self) -> bool {
        matches!(self, Self::Intermediate | Self::Final)
    }
}

/// File system of a file: its device number and its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) number: u64,
    pub(crate) kind: FilesystemKind,
}

/// Resolution of a path at one point in time.
#[derive(Debug, Default)]
pub(crate) struct SymlinkChain {
    /// Entries in the order of resolution, from the root directory to the file or to the first
    /// entry that does not exist.
    pub(crate) entries: Vec<Entry>,
    /// Least reliable kind among the file systems that the path resolves through.
    pub(crate) kind: FilesystemKind,
    /// Device of the last existing directory or file.
    pub(crate) device: Option<Device>,
    /// Role of the inode watch, if the path resolves to a regular file.
    pub(crate) inode_role: Option<Role>,
}

/// Resolves an absolute path.
pub(crate) fn resolve(path: &Path) -> SymlinkChain {
    let mut chain = SymlinkChain::default();
    let mut directory = PathBuf::from("/");
    let mut remaining: VecDeque<OsString> = component_names(path);
    let mut symlinks = 0;
    while let Some(name) = remaining.pop_front() {
        if name == ".." {
            directory.pop();
            continue;
        }
        let full = directory.join(&name);
        match std::fs::symlink_metadata(&full) {
            Ok(metadata) if metadata.is_symlink() && symlinks < MAX_SYMLINKS => {
                symlinks += 1;
                let role = Role::Intermediate;
                chain.entries.push(Entry { directory: directory.clone(), name, role });
                let Ok(target) = std::fs::read_link(&full) else { return chain };
                if target.is_absolute() {
                    directory = PathBuf::from("/");
                }
                for name in component_names(&target).into_iter().rev() {
                    remaining.push_front(name);
                }
            }
            Ok(metadata) => {
                let role = if remaining.is_empty() { Role::Final } else { Role::Intermediate };
                let (number, _) = identity(&metadata);
                if chain.device.is_none_or(|device| device.number != number) {
                    let kind = FilesystemKind::detect(&full);
                    chain.kind = chain.kind.max(kind);
                    chain.device = Some(Device { number, kind });
                }
                if remaining.is_empty() && metadata.is_file() {
                    let has_other_paths = link_count(&metadata) > 1 || is_mount_point(&full);
                    chain.inode_role =
                        Some(if has_other_paths { Role::Inode } else { Role::LinkCount });
                }
                chain.entries.push(Entry { directory: directory.clone(), name, role });
                directory = full;
            }
            Err(error) => {
                // A missing last component is the file; other missing components are directories.
                let missing = error.kind() == io::ErrorKind::NotFound && remaining.is_empty();
                let role = if missing { Role::Final } else { Role::Intermediate };
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                    chain.kind = chain.kind.max(FilesystemKind::Remote);
                }
                chain.entries.push(Entry { directory, name, role });
                return chain;
            }
        }
    }
    chain
}

#[cfg(unix)]
fn link_count(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn link_count(_: &Metadata) -> u64 {
    1
}

/// Returns whether the file is a mount point, so that it is reachable through another path as well.
#[cfg(target_os = "linux")]
fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    // Before Linux 5.8, the attribute is not available. The file then counts as a mount point, which
    // only costs an inotify watch on its inode.
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).is_ok_and(|found| {
        let root = StatxAttributes::MOUNT_ROOT;
        !found.stx_attributes_mask.contains(root) || found.stx_attributes.contains(root)
    })
}

#[cfg(not(target_os = "linux"))]
fn is_mount_point(_: &Path) -> bool {
    false
}

fn component_names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    /// Returns the entries below `root`, with the suffix ` (final)` for the final entry.
    fn entries_below(root: &Path, path: &str) -> Vec<String> {
        resolve(&root.join(path))
            .entries
            .into_iter()
            .filter_map(|entry| {
                let full = entry.directory.join(&entry.name);
                let relative = full.strip_prefix(root).ok()?.display().to_string();
                (!relative.is_empty()).then(|| match entry.role {
                    Role::Intermediate => relative,
                    Role::Final => format!("{relative} (final)"),
                    Role::Inode | Role::LinkCount => unreachable!("not a role of an entry"),
                })
            })
            .collect()
    }

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        (directory, path)
    }

    #[test]
    fn plain_file_depends_on_its_directories() {
        let (_keep, root) = directory();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/f"), "").unwrap();
        assert_eq!(entries_below(&root, "a/f"), ["a", "a/f (final)"]);
    }

    #[test]
    fn kubernetes_volume_resolves_through_all_links() {
        let (_keep, root) = directory();
        fs::create_dir(root.join("..2024")).unwrap();
        fs::write(root.join("..2024/f"), "").unwrap();
        symlink("..2024", root.join("..data")).unwrap();
        symlink("..data/f", root.join("f")).unwrap();
        assert_eq!(entries_below(&root, "f"), ["f", "..data", "..2024", "..2024/f (final)"]);
    }

    #[test]
    fn missing_component_ends_the_chain() {
        let (_keep, root) = directory();
        assert_eq!(entries_below(&root, "f"), ["f (final)"]);
        assert_eq!(entries_below(&root, "a/b/f"), ["a"]);
    }

    #[test]
    fn symlink_loop_ends_at_the_limit() {
        let (_keep, root) = directory();
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(entries_below(&root, "loop").last().map(String::as_str), Some("loop (final)"));
    }

    #[test]
    fn hard_link_changes_the_inode_role() {
        let (_keep, root) = directory();
        fs::write(root.join("f"), "").unwrap();
        assert_eq!(resolve(&root.join("f")).inode_role, Some(Role::LinkCount));
        fs::hard_link(root.join("f"), root.join("g")).unwrap();
        assert_eq!(resolve(&root.join("f")).inode_role, Some(Role::Inode));
    }
}

//! What the content of a path depends on: every directory entry on the way, through symbolic links.

use crate::filesystem_kind::Ground;
use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::Metadata,
    io,
    path::{Component, Path, PathBuf},
};

/// How many symbolic links one path may lead through; Linux's own limit.
const MAX_LINKS: usize = 40;

/// One directory entry that the path leads through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) directory: PathBuf,
    pub(crate) name: OsString,
    pub(crate) role: Role,
}

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// An entry of a directory: the path may lead somewhere else. A directory or a link on the way.
    Way,
    /// An entry of a directory: the file, or where it would be.
    Content,
    /// The file itself, which has other names too by which it is written to where nobody looks: hard
    /// links, or a mount.
    File,
    /// The file itself, which may get another name.
    Names,
}

impl Role {
    /// Whether a directory is watched for it, and not the file.
    pub(crate) fn is_of_directory(self) -> bool {
        matches!(self, Self::Way | Self::Content)
    }
}

/// A device, and what can be known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) number: u64,
    pub(crate) ground: Ground,
}

/// Where a path leads at this moment.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// From the root down. It ends with the file, or with the first entry that does not exist.
    pub(crate) entries: Vec<Entry>,
    /// The least that can be known of any place on the way.
    pub(crate) ground: Ground,
    /// The last one on the way.
    pub(crate) device: Option<Device>,
    /// What is of interest in the regular file at the end, if there is one.
    pub(crate) file: Option<Role>,
}

pub(crate) type Identity = (u64, u64);

/// Where `path` (absolute) leads at this moment.
pub(crate) fn chain(path: &Path) -> Chain {
    let mut chain = Chain::default();
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(path);
    let mut followed = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let full = at.join(&name);
        match std::fs::symlink_metadata(&full) {
            Ok(metadata) if metadata.is_symlink() && followed < MAX_LINKS => {
                followed += 1;
                chain.entries.push(Entry { directory: at.clone(), name, role: Role::Way });
                let Ok(target) = std::fs::read_link(&full) else { return chain };
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for name in names(&target).into_iter().rev() {
                    rest.push_front(name);
                }
            }
            Ok(metadata) => {
                let role = if rest.is_empty() { Role::Content } else { Role::Way };
                let (number, _) = identity(&metadata);
                if chain.device.is_none_or(|device| device.number != number) {
                    let ground = Ground::of(&full);
                    chain.ground = chain.ground.max(ground);
                    chain.device = Some(Device { number, ground });
                }
                if rest.is_empty() && metadata.is_file() {
                    let has_other_names = links(&metadata) > 1 || is_mounted(&full);
                    chain.file = Some(if has_other_names { Role::File } else { Role::Names });
                }
                chain.entries.push(Entry { directory: at.clone(), name, role });
                at = full;
            }
            Err(error) => {
                // A file that is not there yet is content; a missing directory is on the way.
                let missing = error.kind() == io::ErrorKind::NotFound && rest.is_empty();
                let role = if missing { Role::Content } else { Role::Way };
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                    chain.ground = chain.ground.max(Ground::Remote);
                }
                chain.entries.push(Entry { directory: at, name, role });
                return chain;
            }
        }
    }
    chain
}

#[cfg(unix)]
pub(crate) fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
pub(crate) fn identity(metadata: &Metadata) -> Identity {
    let created = metadata.created().ok();
    let age = created.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    (0, age.map_or(0, |age| age.as_nanos() as u64))
}

#[cfg(unix)]
fn links(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_: &Metadata) -> u64 {
    1
}

/// Whether something is mounted on this very file, which then lives somewhere else as well.
#[cfg(target_os = "linux")]
fn is_mounted(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    // Where the kernel cannot tell (before 5.8), it is taken for a mount: it only costs a watch.
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).is_ok_and(|found| {
        let root = StatxAttributes::MOUNT_ROOT;
        !found.stx_attributes_mask.contains(root) || found.stx_attributes.contains(root)
    })
}

#[cfg(not(target_os = "linux"))]
fn is_mounted(_: &Path) -> bool {
    false
}

fn names(path: &Path) -> VecDeque<OsString> {
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

    /// The chain below a directory, as `entry` or `entry (content)`.
    fn below(root: &Path, path: &str) -> Vec<String> {
        chain(&root.join(path))
            .entries
            .into_iter()
            .filter_map(|entry| {
                let full = entry.directory.join(&entry.name);
                let relative = full.strip_prefix(root).ok()?.display().to_string();
                (!relative.is_empty()).then(|| match entry.role {
                    Role::Way => relative,
                    Role::Content => format!("{relative} (content)"),
                    Role::File | Role::Names => unreachable!("no role of an entry"),
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
    fn a_plain_file_depends_on_its_directories_and_itself() {
        let (_keep, root) = directory();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/f"), "").unwrap();
        assert_eq!(below(&root, "a/f"), ["a", "a/f (content)"]);
    }

    #[test]
    fn every_link_of_a_mounted_volume_is_on_the_way() {
        let (_keep, root) = directory();
        fs::create_dir(root.join("..2024")).unwrap();
        fs::write(root.join("..2024/f"), "").unwrap();
        symlink("..2024", root.join("..data")).unwrap();
        symlink("..data/f", root.join("f")).unwrap();
        assert_eq!(below(&root, "f"), ["f", "..data", "..2024", "..2024/f (content)"]);
    }

    #[test]
    fn what_does_not_exist_yet_is_waited_for_where_it_would_be() {
        let (_keep, root) = directory();
        assert_eq!(below(&root, "f"), ["f (content)"]);
        assert_eq!(below(&root, "a/b/f"), ["a"]);
    }

    #[test]
    fn a_link_that_leads_to_itself_ends() {
        let (_keep, root) = directory();
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(below(&root, "loop").last().map(String::as_str), Some("loop (content)"));
    }

    #[test]
    fn a_file_with_a_second_name_is_known_by_it() {
        let (_keep, root) = directory();
        fs::write(root.join("f"), "").unwrap();
        assert_eq!(chain(&root.join("f")).file, Some(Role::Names));
        fs::hard_link(root.join("f"), root.join("g")).unwrap();
        assert_eq!(chain(&root.join("f")).file, Some(Role::File));
    }
}

//! What the content of a path depends on: every directory entry on the way, through symbolic links.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

/// How many symbolic links one path may lead through; Linux's own limit.
const MAX_LINKS: usize = 40;

/// One directory entry that the path leads through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) directory: PathBuf,
    pub(super) name: OsString,
    pub(super) role: Role,
}

/// What a change of an entry means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// The path may lead somewhere else: a directory or a link on the way.
    Way,
    /// The file itself, or where it would be.
    Content,
}

/// The entries that `path` (absolute) leads through at this moment, from the root down. It ends with
/// the file, or with the first entry that does not exist.
pub(super) fn chain(path: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let full = at.join(&name);
        match std::fs::symlink_metadata(&full) {
            Ok(metadata) if metadata.is_symlink() && links < MAX_LINKS => {
                links += 1;
                entries.push(Entry { directory: at.clone(), name, role: Role::Way });
                let Ok(target) = std::fs::read_link(&full) else { return entries };
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for name in names(&target).into_iter().rev() {
                    rest.push_front(name);
                }
            }
            Ok(_) => {
                let role = if rest.is_empty() { Role::Content } else { Role::Way };
                entries.push(Entry { directory: at.clone(), name, role });
                at = full;
            }
            Err(error) => {
                // A file that is not there yet is content; a missing directory is on the way.
                let missing = error.kind() == io::ErrorKind::NotFound && rest.is_empty();
                let role = if missing { Role::Content } else { Role::Way };
                entries.push(Entry { directory: at, name, role });
                return entries;
            }
        }
    }
    entries
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
            .into_iter()
            .filter_map(|entry| {
                let full = entry.directory.join(&entry.name);
                let relative = full.strip_prefix(root).ok()?.display().to_string();
                (!relative.is_empty()).then(|| match entry.role {
                    Role::Way => relative,
                    Role::Content => format!("{relative} (content)"),
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
}

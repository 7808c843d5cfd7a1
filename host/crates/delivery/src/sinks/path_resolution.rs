//! Path of a written file: resolution of its symbolic links. Follows only links that no untrusted user can create.

use reloader_fs_watch::FileFingerprint;
use std::{
    fs::{self, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Maximum number of symbolic links that a path may contain.
const MAX_SYMLINKS: usize = 40;
/// Mode bits that let the group and other users write.
const SHARED_WRITE: u32 = 0o022;
/// Mode bit that lets users write who are neither the owner nor in the group.
const WORLD_WRITE: u32 = 0o002;

/// Resolves the symbolic links of the last path component, also if the target does not exist.
///
/// A link of another user can point anywhere, and the host may have more rights than this user. Links are
/// therefore followed only if they belong to root or to the host's user, or are in a directory in which only
/// these two can create links.
pub(super) fn resolve_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_SYMLINKS {
        let link = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => found,
            _ => return Ok(path),
        };
        let directory = directory_of(&path);
        if !is_trusted_link(&link, &fs::metadata(&directory)?) {
            let text = format!(
                "the symbolic link `{}` belongs to another user and can be redirected; hint: set `path` to the \
                 target of the link, or make root the owner of the link",
                path.display()
            );
            return Err(io::Error::new(ErrorKind::PermissionDenied, text));
        }
        let target = fs::read_link(&path)?;
        // Fails if the link was replaced between the check and the read.
        let fingerprint = FileFingerprint::from_metadata;
        if fingerprint(&fs::symlink_metadata(&path)?) != fingerprint(&link) {
            return Err(io::Error::other("the symbolic link changed while it was resolved"));
        }
        path = directory.join(target);
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Returns the directory that contains `path`.
pub(super) fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory.into(),
        _ => ".".into(),
    }
}

fn is_trusted_link(link: &Metadata, directory: &Metadata) -> bool {
    is_trusted_user(link.uid())
        || is_trusted_user(directory.uid()) && directory.mode() & SHARED_WRITE == 0
}

/// Returns whether a user is root or the host's user.
fn is_trusted_user(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// Returns an error if a file of `owner` in `directory` is untrusted: the directory is world-writable, and the
/// owner is neither the host's user nor the owner of the directory.
pub(super) fn check_file_owner(directory: &Path, owner: u32) -> io::Result<()> {
    let metadata = fs::metadata(directory)?;
    let trusted = [rustix::process::geteuid().as_raw(), metadata.uid()];
    if metadata.mode() & WORLD_WRITE == 0 || trusted.contains(&owner) {
        return Ok(());
    }
    let text = "the file belongs to another user, and its directory is world-writable";
    Err(io::Error::new(ErrorKind::PermissionDenied, text))
}

//! Sockets of this machine, for nobody but the host's own user.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};
use tokio::net::{UnixListener, UnixStream};

/// Listens at this path, in the place of one that was left by a host that was killed.
///
/// # Errors
///
/// When there is no socket to be had there; also when somebody listens there.
pub(crate) async fn listen(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another host listens there"));
    }
    match fs::symlink_metadata(path) {
        Ok(there) if !std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there, and no socket"));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

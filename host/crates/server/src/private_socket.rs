//! Private Unix sockets: sockets that only the user of the host can open.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};
use tokio::net::{UnixListener, UnixStream};

/// Binds a Unix socket at a path, and replaces a socket that a killed host has left there.
///
/// # Errors
///
/// Returns an error if another process listens on the socket, the path is not a socket, or the socket cannot be
/// created.
pub(crate) async fn bind(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on the socket",
        ));
    }
    match fs::symlink_metadata(path) {
        Ok(existing) if !std::os::unix::fs::FileTypeExt::is_socket(&existing.file_type()) => {
            let reason = "the file exists and is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The socket is created in a private directory and renamed after its mode is set, so that no other user can
    // open the socket before.
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    let private = tempfile::Builder::new()
        .prefix(".s")
        .rand_bytes(4)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(directory.unwrap_or(Path::new(".")))?;
    let temporary = private.path().join("s");
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[tokio::test]
    async fn stale_socket_is_replaced_with_mode_0600() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("control.sock");
        for _ in 0..2 {
            let listener = bind(&path).await.expect("the path is free");
            assert_eq!(fs::metadata(&path).expect("the socket exists").mode() & 0o777, 0o600);
            UnixStream::connect(&path).await.expect("the own user may connect");
            let again = bind(&path).await.expect_err("the socket is in use");
            assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
            drop(listener);
        }
        assert_eq!(fs::read_dir(directory.path()).expect("the directory exists").count(), 1);
    }
}

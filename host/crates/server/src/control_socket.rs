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
    // Made where nobody else can reach it, so that it is never there with other permissions.
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    let private = tempfile::Builder::new()
        .prefix(".s")
        .rand_bytes(4)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(directory.unwrap_or(Path::new(".")))?;
    let made = private.path().join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
    fs::rename(&made, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[tokio::test]
    async fn a_socket_is_for_its_own_user_and_takes_the_place_of_one_that_was_left() {
        let place = tempfile::tempdir().expect("there is room");
        let path = place.path().join("control.sock");
        for _ in 0..2 {
            let listener = listen(&path).await.expect("it listens");
            assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
            UnixStream::connect(&path).await.expect("it is let in");
            let again = listen(&path).await.expect_err("somebody listens there");
            assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
            drop(listener);
        }
        assert_eq!(fs::read_dir(place.path()).expect("it is there").count(), 1);
    }
}

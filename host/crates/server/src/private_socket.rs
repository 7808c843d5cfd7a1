//! Private Unix sockets: sockets that only the user of the host can open.

use crate::blocking_operation_pool::POOL;
use reloader_fs_watch::access_within;
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Handle,
    time::timeout,
};

/// Time limit for binding a socket.
const BIND_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for removing the file of a socket when the server stops.
const REMOVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Binds a Unix socket at a path, and replaces a socket that a killed host has left there.
///
/// # Errors
///
/// Returns an error if another process listens on the socket, the path is not a socket, the socket cannot be created,
/// or the file system does not answer within [`BIND_TIMEOUT`].
pub(crate) async fn bind(path: &Path) -> io::Result<UnixListener> {
    let (runtime, at) = (Handle::current(), path.to_owned());
    bind_within(BIND_TIMEOUT, path, move || runtime.block_on(replace(&at))).await
}

/// Runs `bind` on another thread, and waits for its result for `limit` at most. Removes a socket that is bound later.
async fn bind_within(
    limit: Duration,
    path: &Path,
    bind: impl FnOnce() -> io::Result<UnixListener> + Send + 'static,
) -> io::Result<UnixListener> {
    let bound_path = path.to_owned();
    let bind = move || bind().map(|bound| (bound, UnservedSocket(Some(bound_path))));
    let (listener, mut file) = access_within(path, limit, bind).await??;
    file.0 = None;
    Ok(listener)
}

/// Path of a bound socket that is not served yet. Dropping it removes the socket.
struct UnservedSocket(Option<PathBuf>);

impl Drop for UnservedSocket {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes the file of a socket. Waits for the file system for [`REMOVE_TIMEOUT`] at most.
pub(crate) async fn remove(path: &Path) {
    let path = path.to_owned();
    let _ = timeout(REMOVE_TIMEOUT, POOL.spawn(move || fs::remove_file(path))).await;
}

/// Binds the socket. The accesses to files block the thread.
async fn replace(path: &Path) -> io::Result<UnixListener> {
    let is_in_use = match UnixStream::connect(path).await {
        Ok(_) => true,
        // A full accept queue also means that another process listens.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    };
    if is_in_use {
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
    use std::{os::unix::fs::MetadataExt, sync::mpsc};

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

    #[tokio::test]
    async fn hung_file_system_is_an_error() {
        let (_release, released) = mpsc::channel::<()>();
        let bind = move || Err(io::Error::other(format!("{:?}", released.recv())));
        let limit = Duration::from_millis(1);
        let error = bind_within(limit, Path::new("/hung"), bind).await.expect_err("a timeout");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "the file system has not answered for 1ms");
    }

    /// A socket that is bound after the time limit is removed. Otherwise clients would connect to it and wait for ever.
    #[tokio::test]
    async fn socket_that_is_bound_too_late_is_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("control.sock");
        let (start, started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (runtime, at) = (Handle::current(), path.clone());
        let bind = move || {
            let _ = start.send(());
            let _ = released.recv();
            let bound = runtime.block_on(replace(&at));
            assert!(at.exists());
            let _ = start.send(());
            bound
        };
        let binding = tokio::spawn(async move { bind_within(BIND_TIMEOUT, &path, bind).await });
        let wait = async |what: &str, is_reached: &dyn Fn() -> bool| {
            let reached = async {
                while !is_reached() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(30), reached).await.expect(what)
        };
        wait("the start", &|| started.try_recv().is_ok()).await;
        binding.abort();
        let _ = binding.await;
        drop(release);
        wait("the bound socket", &|| started.try_recv().is_ok()).await;
        let count = || fs::read_dir(directory.path()).expect("the directory exists").count();
        wait("the removal", &|| count() == 0).await;
    }
}

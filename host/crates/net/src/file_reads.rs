//! Reads of files that the operator names: secrets, certificates and keys, with a deadline.
//!
//! A file system that stops answering blocks each thread that reads from it. The reads run on threads of their own,
//! and a file whose read has not returned is not read again before it has.

use reloader_fs_watch::{RegularFileError, read_regular_file};
use reloader_util::{
    blocking_pool::{BlockingError, BlockingPool},
    panics,
    sync::Mutex,
};
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    time::Duration,
};

/// Time limit of a read. Callers wait for twice as long at least, so that the error names the file.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of concurrent reads that have not been running for long.
const MAX_CONCURRENT_READS: usize = 8;

static POOL: BlockingPool = BlockingPool::new("reloader-secret", MAX_CONCURRENT_READS);

/// Files whose reads have exceeded the time limit and have not returned.
static HUNG_FILES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Reads a regular file of at most `max_bytes`. Blocks for five seconds at most.
///
/// # Errors
///
/// A [`RegularFileError`]. It is an I/O error of the kind `TimedOut` if the file is not read in time.
pub fn read_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>, RegularFileError> {
    let file = path.to_owned();
    within(path, READ_TIMEOUT, move || read_regular_file(&file, max_bytes))?
}

/// Runs a read of the files below `path`. Blocks for five seconds at most.
///
/// # Errors
///
/// An error of the kind `TimedOut` if the read does not return in time.
#[cfg(any(feature = "egress", feature = "host-client"))]
pub(crate) fn read_below<T: Send + 'static>(
    path: &Path,
    read: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    within(path, READ_TIMEOUT, read)
}

fn within<T: Send + 'static>(
    path: &Path,
    limit: Duration,
    read: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let timed_out = || {
        let message = format!("not read within {limit:?}; does its file system respond?");
        io::Error::new(io::ErrorKind::TimedOut, message)
    };
    if HUNG_FILES.lock().contains(path) {
        return Err(timed_out());
    }
    let (sender, receiver) = channel();
    // Set by the read when it starts, or by the caller that gives up: the first one decides whether the file is read.
    let (file, is_decided) = (path.to_owned(), Arc::new(AtomicBool::new(false)));
    let is_abandoned = Arc::clone(&is_decided);
    let task = POOL.spawn(move || {
        if is_abandoned.swap(true, Ordering::SeqCst) {
            return;
        }
        let result = panics::catch(read).map_err(BlockingError::Panicked);
        let mut hung_files = HUNG_FILES.lock();
        hung_files.remove(&file);
        // Sent under the lock, so that the receiver either gets the result or adds the file before this removal.
        let _ = sender.send(result);
    });
    let result = match receiver.recv_timeout(limit) {
        Ok(result) => result.map_err(Into::into),
        Err(RecvTimeoutError::Disconnected) => {
            Err(io::Error::other("no thread is available: other reads have not returned"))
        }
        Err(RecvTimeoutError::Timeout) => {
            let mut hung_files = HUNG_FILES.lock();
            match receiver.try_recv() {
                Ok(result) => result.map_err(Into::into),
                Err(_) => {
                    if is_decided.swap(true, Ordering::SeqCst) {
                        hung_files.insert(path.to_owned());
                    }
                    Err(timed_out())
                }
            }
        }
    };
    drop(task);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread, time::Instant};

    const LIMIT: Duration = Duration::from_millis(20);

    /// Starts a read of `path` that ends with `end` after the returned sender is dropped, and returns its error.
    fn hang(path: &Path, end: fn()) -> (mpsc::Sender<()>, io::Error) {
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        loop {
            let (started, released) = (started.clone(), Arc::clone(&released));
            let read = move || {
                let _ = started.send(());
                let _ = released.lock().recv();
                end();
            };
            let error = within(path, LIMIT, read).expect_err("the read hangs");
            // A read that has not started in time never starts.
            if has_started.recv_timeout(LIMIT).is_ok() {
                return (release, error);
            }
        }
    }

    fn wait_until_readable(path: &Path) {
        let end = Instant::now() + Duration::from_secs(20);
        while within(path, READ_TIMEOUT, || 7).ok() != Some(7) {
            assert!(Instant::now() < end, "the file is not read again");
            thread::yield_now();
        }
    }

    #[test]
    fn hung_read_fails_and_is_not_repeated() {
        let path = Path::new("/a hung mount/secret");
        let (release, error) = hang(path, || ());
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "not read within 20ms; does its file system respond?");
        let error = within(path, READ_TIMEOUT, || panic!("read again")).map(|(): ()| ());
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let other = Path::new("/another file");
        assert_eq!(within(other, READ_TIMEOUT, || 7).unwrap(), 7);
        drop(release);
        wait_until_readable(path);
    }

    #[test]
    fn file_is_readable_after_late_panic() {
        let path = Path::new("/a hung mount/file whose read panics");
        let (release, _) = hang(path, || panic!("by the test"));
        drop(release);
        wait_until_readable(path);
    }

    #[test]
    fn panicked_read_is_an_error() {
        let path = Path::new("/a file whose read panics");
        let error = within(path, READ_TIMEOUT, || panic!("by the test")).map(|(): ()| ());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other);
        assert_eq!(error.to_string(), "the operation panicked: by the test");
    }
}

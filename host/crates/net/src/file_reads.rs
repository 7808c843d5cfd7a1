//! Reads of files that the operator names: secrets, certificates and keys, with a deadline.
//!
//! A file system that stops answering blocks each thread that reads from it. The reads run on threads of their own,
//! and a file whose read has not returned is not read again before it has.

use reloader_fs_watch::{RegularFileError, read_regular_file};
use reloader_util::{blocking_pool::BlockingPool, sync::Mutex};
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
#[cfg(any(feature = "egress", feature = "host-client", feature = "secrets"))]
pub(crate) fn read_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>, RegularFileError> {
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
    let (file, has_started) = (path.to_owned(), Arc::new(AtomicBool::new(false)));
    let is_started = Arc::clone(&has_started);
    let task = POOL.spawn(move || {
        is_started.store(true, Ordering::SeqCst);
        let result = read();
        let mut hung_files = HUNG_FILES.lock();
        hung_files.remove(&file);
        // Sent under the lock, so that the receiver either gets the result or adds the file before this removal.
        let _ = sender.send(result);
    });
    let result = match receiver.recv_timeout(limit) {
        Ok(result) => Ok(result),
        Err(RecvTimeoutError::Disconnected) => {
            Err(io::Error::other("no thread is available: other reads have not returned"))
        }
        Err(RecvTimeoutError::Timeout) => {
            let mut hung_files = HUNG_FILES.lock();
            receiver.try_recv().map_err(|_| {
                // A read that has not started is dropped with its task.
                if has_started.load(Ordering::SeqCst) {
                    hung_files.insert(path.to_owned());
                }
                timed_out()
            })
        }
    };
    drop(task);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread};

    #[test]
    fn hung_read_fails_and_is_not_repeated() {
        let path = Path::new("/a hung mount/secret");
        let limit = Duration::from_millis(20);
        let (release, released) = mpsc::channel::<()>();
        let hang = move || {
            let _ = released.recv();
        };
        let error = within(path, limit, hang).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "not read within 20ms; does its file system respond?");
        let error = within(path, READ_TIMEOUT, || panic!("read again")).map(|(): ()| ());
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let other = Path::new("/another file");
        assert_eq!(within(other, READ_TIMEOUT, || 7).unwrap(), 7);
        drop(release);
        while within(path, READ_TIMEOUT, || 7).ok() != Some(7) {
            thread::yield_now();
        }
    }

    #[test]
    fn panicked_read_is_an_error() {
        let path = Path::new("/a file whose read panics");
        let error = within(path, READ_TIMEOUT, || panic!("by the test")).map(|(): ()| ());
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Other);
    }
}

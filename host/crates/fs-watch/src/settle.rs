//! Waits for the writer of a file to finish (to settle), for callers that load the file themselves.

use crate::{
    file_access_per_owner::ACCESS_TIMEOUT,
    file_access_with_deadline::{FileAccessError, access_within},
    file_fingerprint::FileFingerprint,
    regular_file::open,
};
use std::{
    fs::{self, Metadata},
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep};

/// Time without writes after which the writer of a file counts as finished.
pub(crate) const QUIET_PERIOD: Duration = Duration::from_millis(50);
/// Maximum wait for a writer that never pauses.
pub const MAX_WAIT: Duration = Duration::from_millis(500);
/// Quiet period of an empty file, which may have been truncated by a writer that has not written
/// yet.
const EMPTY_FILE_QUIET_PERIOD: Duration = Duration::from_millis(200);
/// Time between two checks of a file during a wait.
pub(crate) const RECHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Returns whether the file was modified within the quiet period, so that its writer may still be
/// active. An unknown or future modification time counts as recent: the writer may be active.
pub(crate) fn is_recently_modified(metadata: &Metadata) -> bool {
    metadata
        .modified()
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok())
        .is_none_or(|age| age < QUIET_PERIOD)
}

/// Returns the metadata of `path`, or `None` unless the path is a regular file.
fn regular_file_metadata(path: &Path) -> Option<Metadata> {
    fs::metadata(path).ok().filter(Metadata::is_file)
}

/// Returns the remaining quiet period at `now`; zero if the writer counts as finished.
fn remaining_quiet_period(metadata: &Metadata, now: SystemTime) -> Duration {
    let quiet_period = if metadata.len() == 0 { EMPTY_FILE_QUIET_PERIOD } else { QUIET_PERIOD };
    // If the modification time is unknown, or in the future because it comes from another clock, it does not show how
    // long to wait. The writer then counts as finished.
    let age = metadata.modified().ok().and_then(|at| now.duration_since(at).ok());
    age.map_or(Duration::ZERO, |age| quiet_period.saturating_sub(age))
}

/// Accesses a file on another thread, and returns its path with symbolic links resolved, or unchanged if
/// they cannot be resolved.
///
/// A caller that loads the file on its own thread calls this function first, so that a file system that
/// does not answer does not block that thread. It still blocks the thread if it stops answering during the load.
///
/// # Errors
///
/// Returns an error if the file system does not answer within ten seconds, or if no thread is available.
pub async fn resolve_accessible(path: &Path) -> Result<PathBuf, FileAccessError> {
    Ok(access_file(path).await?.resolved_path)
}

/// Resolved path and metadata of a file, read in one access.
struct AccessedFile {
    resolved_path: PathBuf,
    /// Metadata of the file; `None` if it is not a regular file.
    metadata: Option<Metadata>,
}

async fn access_file(path: &Path) -> Result<AccessedFile, FileAccessError> {
    let path_on_thread = path.to_owned();
    let access = move || {
        let path = path_on_thread;
        let metadata = regular_file_metadata(&path);
        if metadata.is_some()
            && let Ok(mut file) = open(&path)
        {
            // A file system may answer the lookup of a file from a cache, and hang in a read.
            let _ = file.read(&mut [0]);
        }
        AccessedFile { resolved_path: path.canonicalize().unwrap_or(path), metadata }
    };
    access_within(path, ACCESS_TIMEOUT, access).await
}

/// Waits for the writer of a file to finish, for at most [`MAX_WAIT`], and loads the file with
/// `load`, which gets the path with symbolic links resolved.
///
/// If the file changes while `load` runs, the wait and `load` are repeated within the same time
/// limit. `load` runs on the current thread, after the file system has answered another thread
/// ([`resolve_accessible`]).
///
/// # Errors
///
/// See [`resolve_accessible`].
pub async fn settled<T>(path: &Path, load: impl Fn(&PathBuf) -> T) -> Result<T, FileAccessError> {
    let start = Instant::now();
    loop {
        let mut file = access_file(path).await?;
        while file
            .metadata
            .as_ref()
            .is_some_and(|found| !remaining_quiet_period(found, SystemTime::now()).is_zero())
            && start.elapsed() < MAX_WAIT
        {
            sleep(RECHECK_INTERVAL).await;
            file = access_file(path).await?;
        }
        {
            let loaded = load(&file.resolved_path);
            let is_unchanged =
                fingerprint(&regular_file_metadata(path)) == fingerprint(&file.metadata);
            if is_unchanged || start.elapsed() >= MAX_WAIT {
                return Ok(loaded);
            }
        }
        // Yields the thread even if the file changes during every load.
        sleep(RECHECK_INTERVAL).await;
    }
}

fn fingerprint(metadata: &Option<Metadata>) -> Option<FileFingerprint> {
    metadata.as_ref().map(FileFingerprint::from_metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn idle_file_is_loaded_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "a").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let loads = Cell::new(0);
        let load = |path: &PathBuf| {
            loads.set(loads.get() + 1);
            fs::read(path).unwrap()
        };
        assert_eq!(settled(&path, load).await.unwrap(), b"a");
        assert_eq!(loads.get(), 1);
    }

    #[tokio::test]
    async fn truncated_file_waits_for_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let writer = async {
            tokio::task::yield_now().await;
            fs::write(&path, "b").unwrap();
        };
        let (loaded, ()) = tokio::join!(settled(&path, |path| fs::read(path).unwrap()), writer);
        assert_eq!(loaded.unwrap(), b"b");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn load_gets_the_resolved_path() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        let target = target.canonicalize().unwrap();
        assert_eq!(settled(&link, PathBuf::clone).await.unwrap(), target);
        let missing = directory.path().join("missing");
        assert_eq!(settled(&missing, PathBuf::clone).await.unwrap(), missing);
    }
}

//! Waits for the writer of a file to finish (to settle), for callers that load the file themselves.

use crate::file_fingerprint::FileFingerprint;
use std::{
    fs::{self, Metadata},
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
/// active. An unknown or future modification time counts as recent.
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
    // A modification time in the future comes from another clock and is ignored.
    let age = metadata.modified().ok().and_then(|at| now.duration_since(at).ok());
    age.map_or(Duration::ZERO, |age| quiet_period.saturating_sub(age))
}

/// Waits for the writer of a file to finish, for at most [`MAX_WAIT`], and loads the file with
/// `load`.
///
/// If the file changes while `load` runs, the wait and `load` are repeated within the same time
/// limit.
pub async fn settled<T>(path: &PathBuf, load: impl Fn(&PathBuf) -> T) -> T {
    let start = Instant::now();
    loop {
        let mut metadata = regular_file_metadata(path);
        while metadata
            .as_ref()
            .is_some_and(|found| !remaining_quiet_period(found, SystemTime::now()).is_zero())
            && start.elapsed() < MAX_WAIT
        {
            sleep(RECHECK_INTERVAL).await;
            metadata = regular_file_metadata(path);
        }
        {
            let loaded = load(path);
            let is_unchanged = fingerprint(&regular_file_metadata(path)) == fingerprint(&metadata);
            if is_unchanged || start.elapsed() >= MAX_WAIT {
                return loaded;
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

    #[tokio::test(start_paused = true)]
    async fn idle_file_is_loaded_immediately() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "a").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let before = Instant::now();
        assert_eq!(settled(&path, |path| fs::read(path).unwrap()).await, b"a");
        assert_eq!(before.elapsed(), Duration::ZERO, "the paused clock moves only during a sleep");
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
        assert_eq!(loaded, b"b");
    }

    #[tokio::test(start_paused = true)]
    async fn directory_is_loaded_without_wait() {
        let directory = tempfile::tempdir().unwrap();
        let before = Instant::now();
        settled(&directory.path().to_owned(), |_| ()).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}

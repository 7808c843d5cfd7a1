//! Waiting for a file's writer to be done, for those who load files by themselves.

use crate::symlink_chain::{Identity, identity};
use std::{
    fs::{self, Metadata},
    path::PathBuf,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep};

/// A file that was written to this recently may still be being written …
pub(crate) const RECENT: Duration = Duration::from_millis(50);
/// A writer that never pauses is waited for at most this long.
pub const MAX_WAIT: Duration = Duration::from_millis(500);
/// A file that is empty was perhaps only just truncated.
const EMPTY: Duration = Duration::from_millis(200);
/// Between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    file: Identity,
}

impl Stamp {
    /// `None` if there is no such file, or what has this name is none, such as a pipe.
    fn of(path: &PathBuf) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(Metadata::is_file)?;
        Some(Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            file: identity(&metadata),
        })
    }

    /// How long it must stay like this to be taken for complete.
    fn settles_in(self, now: SystemTime) -> Duration {
        let wait = if self.bytes == 0 { EMPTY } else { RECENT };
        // A time that lies ahead is another machine's; it says nothing.
        let age = self.modified.and_then(|at| now.duration_since(at).ok());
        age.map_or(Duration::ZERO, |age| wait.saturating_sub(age))
    }
}

/// Waits until a file is not being written, at most [`MAX_WAIT`], and loads it; again, if it has changed while
/// it was loaded.
pub async fn settled<T>(path: &PathBuf, load: impl Fn(&PathBuf) -> T) -> T {
    let start = Instant::now();
    loop {
        let mut stamp = Stamp::of(path);
        while stamp.is_some_and(|stamp| !stamp.settles_in(SystemTime::now()).is_zero())
            && start.elapsed() < MAX_WAIT
        {
            sleep(PAUSE).await;
            stamp = Stamp::of(path);
        }
        {
            let loaded = load(path);
            if Stamp::of(path) == stamp || start.elapsed() >= MAX_WAIT {
                return loaded;
            }
        }
        // Without a pause, a file that changes with every look would keep the thread.
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_at_rest_is_loaded_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "a").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let before = Instant::now();
        assert_eq!(settled(&path, |path| fs::read(path).unwrap()).await, b"a");
        assert_eq!(before.elapsed(), Duration::ZERO, "time stands still, and nobody slept");
    }

    #[tokio::test]
    async fn a_file_that_was_only_truncated_is_waited_for() {
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
    async fn what_is_no_file_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let before = Instant::now();
        settled(&directory.path().to_owned(), |_| ()).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}

//! Metadata polling of a file for which the kernel does not report all changes.

use crate::{
    file_access_per_owner::{FileAccess, RunningAccess},
    file_fingerprint::FileFingerprint,
    regular_file::open,
};
use reloader_util::backoff::equal_jitter;
use std::{
    fs::{self, Metadata},
    future::pending,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Longest time in which two writes may get the same timestamp: 2 s on FAT, 1 s on many file
/// servers.
///
/// A changed file is reported once more after this time, since a second write within it may leave
/// the metadata unchanged.
const TIMESTAMP_GRANULARITY: Duration = Duration::from_secs(2);

/// Reads the fingerprint of the file that `path` resolves to, from its server if it is remote.
pub(crate) fn read_fingerprint(path: &Path) -> Option<FileFingerprint> {
    let found = fs::metadata(path).ok()?;
    // NFS revalidates cached metadata with its server only when a file is opened.
    let revalidated = if found.is_file() { open_metadata(path).ok() } else { None };
    Some(FileFingerprint::from_metadata(&revalidated.unwrap_or(found)))
}

fn open_metadata(path: &Path) -> io::Result<Metadata> {
    open(path)?.metadata()
}

/// Periodic comparison of a file's fingerprint with the last known one.
#[derive(Debug)]
pub(crate) struct Poller {
    path: PathBuf,
    interval: Duration,
    access: FileAccess,
    /// The metadata of the file does not show changes, so that each poll reports a possible change.
    ignores_metadata: bool,
    last_fingerprint: Option<FileFingerprint>,
    /// Time until which a further write may get the same timestamp as the last known write.
    ambiguous_until: Option<Instant>,
    next_poll: Instant,
    running_poll: Option<RunningAccess<Option<FileFingerprint>>>,
}

impl Poller {
    /// Creates a poller. `baseline` is the fingerprint of the version that was reported last.
    pub(crate) fn new(
        path: &Path,
        interval: Duration,
        access: FileAccess,
        ignores_metadata: bool,
        baseline: Option<FileFingerprint>,
    ) -> Self {
        let now = Instant::now();
        // The first poll follows after 50 % to 100 % of the interval, so that the polls of many files
        // do not coincide.
        let first_delay = equal_jitter(interval);
        Self {
            path: path.into(),
            interval,
            access,
            ignores_metadata,
            last_fingerprint: baseline,
            ambiguous_until: Some(now + TIMESTAMP_GRANULARITY),
            next_poll: now + first_delay,
            running_poll: None,
        }
    }

    /// Sets whether each poll reports a possible change, whatever the metadata shows.
    pub(crate) fn set_ignores_metadata(&mut self, ignores_metadata: bool) {
        self.ignores_metadata = ignores_metadata;
    }

    /// Waits for a poll that shows a possible change. Cancel-safe: dropping the future loses no
    /// change.
    ///
    /// Returns an error of the kind [`TimedOut`](io::ErrorKind::TimedOut) if the file system does not answer.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        loop {
            if self.running_poll.is_none() {
                sleep_until(self.next_poll).await;
            }
            let (path, access) = (&self.path, &self.access);
            let running_poll = self.running_poll.get_or_insert_with(|| {
                let polled = path.clone();
                access.start(path, move || read_fingerprint(&polled))
            });
            let found = running_poll.result().await;
            if let Err(error) = &found
                && error.kind() == io::ErrorKind::TimedOut
            {
                return found.map(|_| ());
            }
            self.running_poll = None;
            let now = Instant::now();
            self.next_poll = now + self.interval;
            // A poll has no result if it panicked or no thread was available.
            let Ok(found) = found else { continue };
            let differs = std::mem::replace(&mut self.last_fingerprint, found) != found;
            if differs {
                self.ambiguous_until = Some(now + TIMESTAMP_GRANULARITY);
                return Ok(());
            }
            let ambiguity_ended = self.ambiguous_until.take_if(|until| *until <= now).is_some();
            if ambiguity_ended || self.ignores_metadata {
                return Ok(());
            }
        }
    }
}

/// Waits for a change that `poller` finds, or forever if there is no poller.
pub(crate) async fn poll_changed(poller: &mut Option<Poller>) -> io::Result<()> {
    match poller {
        Some(poller) => poller.changed().await,
        None => pending().await,
    }
}

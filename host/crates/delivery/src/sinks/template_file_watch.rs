//! Watch of a template file: a sink renders again when the file is saved.

use reloader_fs_watch::{FileFingerprint, FileWatcher, PathWatch, access_within, settled};
use reloader_util::sync::Mutex;
use std::{
    io,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};
use tokio::time::sleep;

/// Inotify instance of all template files.
static FILES: LazyLock<FileWatcher> = LazyLock::new(FileWatcher::new);
/// Time until a file that cannot be watched is watched again.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Time limit for reading the metadata of the file.
const ACCESS_TIMEOUT: Duration = Duration::from_secs(10);

/// Template file of one sink.
#[derive(Debug)]
pub(super) struct TemplateFile {
    path: PathBuf,
    files: FileWatcher,
    watch: tokio::sync::Mutex<Option<PathWatch>>,
    /// Fingerprint before the last read, or at the last reported change; `None` before the first read. The inner value
    /// is `None` if there was no file.
    known: Mutex<Option<Option<FileFingerprint>>>,
}

impl TemplateFile {
    pub(super) fn new(path: &Path) -> Self {
        let files = FILES.for_another_owner();
        Self {
            path: path.into(),
            files,
            watch: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Records a read of the file. `fingerprint` was taken before the read.
    pub(super) fn set_read(&self, fingerprint: Option<FileFingerprint>) {
        *self.known.lock() = Some(fingerprint);
    }

    /// Waits until the file differs from the one that was read last, and its writer has finished. Reports each change
    /// once. Cancel-safe: dropping the future loses no change.
    pub(super) async fn changed(&self) {
        let mut watch = self.watch.lock().await;
        loop {
            if watch.is_none() {
                *watch = self.files.watch(&self.path).await.ok();
            }
            // Compared after the start of the watch, so that no change is missed.
            if self.is_changed().await {
                let _ = settled(&self.path, |_| ()).await;
                return;
            }
            match &mut *watch {
                None => sleep(WATCH_RETRY_INTERVAL).await,
                Some(running) => match running.changed().await {
                    Ok(()) => {}
                    // The watch is still valid.
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                    Err(_) => {
                        *watch = None;
                        sleep(WATCH_RETRY_INTERVAL).await;
                    }
                },
            }
        }
    }

    /// Returns whether the file differs from the known one, and marks the present one as known.
    async fn is_changed(&self) -> bool {
        let path = self.path.clone();
        let read = access_within(&self.path, ACCESS_TIMEOUT, move || FileFingerprint::read(&path));
        // A file system that does not answer is reported by the next read of the sink.
        let Ok(found) = read.await else { return false };
        let mut known = self.known.lock();
        let is_changed = known.is_some_and(|known| known != found);
        if is_changed {
            *known = Some(found);
        }
        is_changed
    }
}

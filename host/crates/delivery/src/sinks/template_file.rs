//! Template file: it is read, and watched, so that a sink renders again when the file is saved.

use crate::sink::SinkError;
use reloader_fs_watch::{
    FileFingerprint, FileWatcher, PathWatch, RegularFileError, access_within, read_regular_file,
    settled,
};
use reloader_util::sync::Mutex;
use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::time::sleep;

/// File watcher that all template sinks share, so that they need only one inotify instance.
static FILES: LazyLock<FileWatcher> = LazyLock::new(FileWatcher::new);
/// Time until a file that cannot be watched is watched again.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Time limit for reading the metadata of the file.
const ACCESS_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a template, in bytes.
const MAX_TEMPLATE_BYTES: u64 = 4 << 20;

/// Template file of one sink: watches the file and detects whether it has changed since the last read.
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

    pub(super) fn path(&self) -> &Path {
        &self.path
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
            if let Some(found) = self.changed_fingerprint().await {
                let _ = settled(&self.path, |_| ()).await;
                // Not before the wait: a change whose report is cancelled is found again.
                *self.known.lock() = Some(found);
                return;
            }
            match &mut *watch {
                None => sleep(WATCH_RETRY_INTERVAL).await,
                Some(running) => match running.changed().await {
                    Ok(()) => {}
                    // A file access took too long. The watch is still valid and is not opened again.
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                    Err(_) => {
                        *watch = None;
                        sleep(WATCH_RETRY_INTERVAL).await;
                    }
                },
            }
        }
    }

    /// Returns the fingerprint of the file if it differs from the known one. The inner value is `None` if there is no
    /// file.
    async fn changed_fingerprint(&self) -> Option<Option<FileFingerprint>> {
        let path = self.path.clone();
        let read = access_within(&self.path, ACCESS_TIMEOUT, move || FileFingerprint::read(&path));
        // A file system that does not answer is reported by the next read of the sink.
        let found = read.await.ok()?;
        let is_changed = self.known.lock().is_some_and(|known| known != found);
        is_changed.then_some(found)
    }
}

/// Returns the name and the text of a template file.
pub(super) fn read_template(path: &Path) -> Result<(String, Arc<str>), SinkError> {
    let name = path.display().to_string();
    let unreadable = |error: &dyn Display| format!("cannot read `{name}`: {error}");
    let read = read_regular_file(path, MAX_TEMPLATE_BYTES).map_err(|error| match error {
        RegularFileError::NotRegular => format!("`{name}` is not a regular file"),
        RegularFileError::TooLarge { max_bytes } => {
            format!("`{name}` is larger than {} MiB", max_bytes >> 20)
        }
        RegularFileError::Io(error) => unreadable(&error),
    });
    let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(|e| unreadable(&e)));
    let text = text.map_err(SinkError::transient)?;
    Ok((name, text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Instant};
    use tokio::time::timeout;

    /// The worker drops the future, for example when it checks the target. The file was written in place, so that the
    /// watch waits for its writer.
    #[tokio::test]
    async fn cancelled_wait_loses_no_change() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("app.j2");
        fs::write(&path, "a").expect("the template is written");
        let file = TemplateFile::new(&path);
        file.set_read(FileFingerprint::read(&path));
        fs::write(&path, "ab").expect("the template is written");
        let end = Instant::now() + Duration::from_secs(30);
        while timeout(Duration::from_millis(5), file.changed()).await.is_err() {
            assert!(Instant::now() < end, "the change is lost");
        }
    }
}

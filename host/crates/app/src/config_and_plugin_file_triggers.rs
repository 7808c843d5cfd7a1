//! File triggers: changes of the configuration file and of plugin files lead to a reload.

use crate::{config_read_pool::FILE_ACCESS_TIMEOUT, reload_queue::ReloadTrigger};
use reloader_fs_watch::{FileAccess, FileFingerprint, FileWatcher, open};
use reloader_plugin_runtime::is_path;
use reloader_util::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    future::pending,
    io::{self, Read},
    mem,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::mpsc, task::AbortHandle};
use tracing::warn;

/// Debounce time after a change of a file, in which the writer can finish.
const DEBOUNCE_TIME: Duration = Duration::from_millis(100);
/// Time until a file whose watch failed is watched again.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Size of the buffer for reading a file to compute its digest, in bytes.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Maximum number of triggers that wait until the reload queue takes them.
const MAX_QUEUED_TRIGGERS: usize = 64;

/// Watcher of the configuration file and of the plugin files. Its triggers start reloads.
#[derive(Debug)]
pub(crate) struct FileTriggers {
    files: FileWatcher,
    sender: mpsc::Sender<ReloadTrigger>,
    receiver: mpsc::Receiver<ReloadTrigger>,
    /// Task that watches the configuration file.
    config: AbortHandle,
    /// Tasks that watch plugin files, by path.
    plugins: BTreeMap<String, AbortHandle>,
}

impl FileTriggers {
    /// Starts to watch a configuration file. `known` is the fingerprint of the file when it was read.
    pub(crate) fn new(config: &Path, known: Option<FileFingerprint>) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_TRIGGERS);
        let files = FileWatcher::new();
        let config =
            watch_file(files.clone(), config.into(), known, ReloadTrigger::Config, sender.clone());
        Self { files, sender, receiver, config, plugins: BTreeMap::new() }
    }

    /// Replaces the set of watched plugins. `wanted` has the fingerprint that each file had when it was loaded.
    /// Bundled plugins have no file and are ignored.
    pub(crate) fn watch_plugins(&mut self, mut wanted: BTreeMap<String, Option<FileFingerprint>>) {
        wanted.retain(|name, _| is_path(name));
        self.plugins.retain(|path, task| {
            let is_wanted = wanted.contains_key(path);
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        for (path, known) in wanted {
            let trigger = ReloadTrigger::Plugin(path.clone());
            let (files, sender) = (self.files.for_another_owner(), self.sender.clone());
            self.plugins
                .entry(path.clone())
                .or_insert_with(|| watch_file(files, path.into(), known, trigger, sender));
        }
    }

    /// Waits until a watched file changes. Returns the trigger of the reload.
    pub(crate) async fn next(&mut self) -> ReloadTrigger {
        // The channel never closes: `self` holds a sender.
        match self.receiver.recv().await {
            Some(trigger) => trigger,
            None => pending().await,
        }
    }
}

/// Aborts the tasks that watch files.
impl Drop for FileTriggers {
    fn drop(&mut self) {
        self.config.abort();
        self.plugins.values().for_each(AbortHandle::abort);
    }
}

/// Starts a task that sends `trigger` each time the content of a file changes, or the file becomes readable or
/// unreadable. `known` is the fingerprint of the file when it was loaded. The watcher `files` must serve only this
/// file: if a file system does not answer, all accesses of a watcher are delayed.
fn watch_file(
    files: FileWatcher,
    path: PathBuf,
    known: Option<FileFingerprint>,
    trigger: ReloadTrigger,
    sender: mpsc::Sender<ReloadTrigger>,
) -> AbortHandle {
    let task = tokio::spawn(async move {
        let mut known = read_known_version(&path, known).await;
        loop {
            let mut watch = match files.watch(&path).await {
                Ok(watch) => watch,
                Err(error) => {
                    let path = path.display();
                    warn!(%path, %error, retry_in = ?WATCH_RETRY_INTERVAL, "file watch failed");
                    tokio::time::sleep(WATCH_RETRY_INTERVAL).await;
                    continue;
                }
            };
            // The first comparison detects a change that happened before the watch was armed.
            loop {
                if let Some(current) = read_version_if_changed(&path, known).await {
                    let is_same_content = known.is_some_and(|known| known.digest == current.digest);
                    known = Some(current);
                    if !is_same_content && sender.send(trigger.clone()).await.is_err() {
                        return;
                    }
                }
                match watch.changed().await {
                    Ok(()) => {}
                    // After a timeout, the watch is still valid. The next read waits until the file system answers.
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                    Err(_) => break,
                }
                tokio::time::sleep(DEBOUNCE_TIME).await;
            }
        }
    });
    task.abort_handle()
}

/// Version of a file. The fingerprint detects a possible change cheaply. It also changes with the attributes of the
/// file (`chmod`, a further hard link), so that the digest decides whether the content has changed.
#[derive(Debug, Clone, Copy)]
struct FileVersion {
    fingerprint: FileFingerprint,
    /// `None` if the content cannot be read, for example for lack of permission.
    digest: Option<Digest>,
}

impl FileVersion {
    /// Reads the version of a file. Returns `None` if there is no such file.
    fn read(path: &Path) -> Option<Self> {
        // Taken before the read, so that the next comparison detects a change that happens during the read.
        let fingerprint = FileFingerprint::read(path)?;
        match read_digest(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            digest => Some(Self { fingerprint, digest: digest.ok() }),
        }
    }
}

/// Returns the digest of the content of a regular file.
fn read_digest(path: &Path) -> io::Result<Digest> {
    let mut file = open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(<[u8; 32]>::from(hasher.finalize()).into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Returns the version of a file that was loaded with the fingerprint `known`. Without a fingerprint, returns the
/// current version, or `None` if there is no file.
async fn read_known_version(path: &Path, known: Option<FileFingerprint>) -> Option<FileVersion> {
    read_version(path, move |path| {
        let current = FileVersion::read(path);
        let Some(known) = known else { return current };
        let is_unchanged = FileFingerprint::read(path) == Some(known);
        // If the file has changed since it was loaded, the digest stays unknown. With the digest of the new content,
        // the next comparison would find no change.
        let digest = current.filter(|_| is_unchanged).and_then(|current| current.digest);
        Some(FileVersion { fingerprint: known, digest })
    })
    .await
}

/// Returns the current version of a file if its fingerprint differs from the known one.
async fn read_version_if_changed(path: &Path, known: Option<FileVersion>) -> Option<FileVersion> {
    read_version(path, move |path| {
        let fingerprint = FileFingerprint::read(path);
        let is_unchanged = fingerprint == known.map(|known| known.fingerprint);
        if is_unchanged { None } else { FileVersion::read(path) }
    })
    .await
}

/// Runs `read` on another thread, and waits until the file system answers. Logs a delay.
async fn read_version(
    path: &Path,
    read: impl FnOnce(&Path) -> Option<FileVersion> + Send + 'static,
) -> Option<FileVersion> {
    let file = path.to_owned();
    let mut access = FileAccess::new(FILE_ACCESS_TIMEOUT).start(path, move || read(&file));
    let mut is_reported = false;
    loop {
        match access.result().await {
            Ok(version) => return version,
            Err(error) if error.kind() != io::ErrorKind::TimedOut => return None,
            Err(error) => {
                if !mem::replace(&mut is_reported, true) {
                    let path = path.display();
                    warn!(%path, %error, "file system not responding, change detection delayed");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };
    use tokio::time::timeout;

    /// Time that a test waits before it concludes that no trigger arrives.
    const NO_TRIGGER_TIME: Duration = Duration::from_millis(500);
    const TRIGGER_TIMEOUT: Duration = Duration::from_secs(10);

    async fn is_triggered(triggers: &mut FileTriggers, time: Duration) -> bool {
        timeout(time, triggers.next()).await.is_ok()
    }

    #[tokio::test]
    async fn unchanged_content_triggers_no_reload() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reloader.toml");
        fs::write(&path, "a").unwrap();
        let mut triggers = FileTriggers::new(&path, FileFingerprint::read(&path));
        assert!(!is_triggered(&mut triggers, NO_TRIGGER_TIME).await, "unchanged");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(!is_triggered(&mut triggers, NO_TRIGGER_TIME).await, "other mode");
        fs::hard_link(&path, directory.path().join("backup")).unwrap();
        assert!(!is_triggered(&mut triggers, NO_TRIGGER_TIME).await, "hard link");
        fs::write(&path, "a").unwrap();
        assert!(!is_triggered(&mut triggers, NO_TRIGGER_TIME).await, "same content");
        fs::write(&path, "b").unwrap();
        assert!(is_triggered(&mut triggers, TRIGGER_TIMEOUT).await, "other content");
    }

    #[tokio::test]
    async fn change_between_load_and_watch_triggers_reload() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reloader.toml");
        fs::write(&path, "a").unwrap();
        let known = FileFingerprint::read(&path);
        fs::write(&path, "bc").unwrap();
        let mut triggers = FileTriggers::new(&path, known);
        assert!(is_triggered(&mut triggers, TRIGGER_TIMEOUT).await);
    }

    /// The path is a directory at first, then a readable file. The directory stands for a file without read
    /// permission, which would be readable for root.
    #[tokio::test]
    async fn file_that_becomes_readable_triggers_reload() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reloader.toml");
        fs::create_dir(&path).unwrap();
        let mut triggers = FileTriggers::new(&path, FileFingerprint::read(&path));
        assert!(!is_triggered(&mut triggers, NO_TRIGGER_TIME).await);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "a").unwrap();
        assert!(is_triggered(&mut triggers, TRIGGER_TIMEOUT).await);
    }

    /// A file without read permission gets it by `chmod`. Skipped for root, which can read the file from the start.
    #[tokio::test]
    async fn read_permission_triggers_reload() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reloader.toml");
        fs::write(&path, "a").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o0)).unwrap();
        if fs::read(&path).is_ok() {
            return;
        }
        let mut triggers = FileTriggers::new(&path, FileFingerprint::read(&path));
        assert!(!is_triggered(&mut triggers, NO_TRIGGER_TIME).await);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(is_triggered(&mut triggers, TRIGGER_TIMEOUT).await);
    }
}

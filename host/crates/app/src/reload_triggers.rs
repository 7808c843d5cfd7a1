//! Triggers of a reload: changes of the configuration file, changes of plugin files, and a periodic
//! retry.

use reloader_fs_watch::FileWatcher;
use reloader_plugin_runtime::is_path;
use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep_until},
};
use tracing::warn;

/// Debounce time after a change of a file, for a writer to finish.
const DEBOUNCE_TIME: Duration = Duration::from_millis(100);
/// Time between two retries of the source updates that were rolled back.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Time until a file whose watch failed is watched again.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of queued triggers.
const MAX_QUEUED_TRIGGERS: usize = 64;

/// Reason for a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReloadTrigger {
    /// The configuration file changed, or the operator requested a reload.
    Config,
    /// The file of the named plugin changed.
    Plugin(String),
    /// Periodic retry of source updates that were rolled back.
    Retry,
}

/// Watches the configuration file and the plugin files, and reports reload triggers.
#[derive(Debug)]
pub(crate) struct ReloadTriggers {
    files: FileWatcher,
    sender: mpsc::Sender<ReloadTrigger>,
    receiver: mpsc::Receiver<ReloadTrigger>,
    /// Tasks that watch plugin files, by path.
    plugins: BTreeMap<String, AbortHandle>,
    retry_at: Instant,
}

impl ReloadTriggers {
    /// Starts to watch a configuration file. `known` is the stamp of the file when it was read.
    pub(crate) fn new(config: &Path, known: Option<Stamp>) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_TRIGGERS);
        let files = FileWatcher::new();
        let retry_at = Instant::now() + RETRY_INTERVAL;
        watch_file(files.clone(), config.into(), known, ReloadTrigger::Config, sender.clone());
        Self { files, sender, receiver, plugins: BTreeMap::new(), retry_at }
    }

    /// Replaces the set of watched plugins. The stamps are those of the files when they were loaded.
    /// Bundled plugins have no file and are ignored.
    pub(crate) fn watch_plugins(&mut self, mut wanted: BTreeMap<String, Option<Stamp>>) {
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
            let (files, sender) = (self.files.clone(), self.sender.clone());
            self.plugins
                .entry(path.clone())
                .or_insert_with(|| watch_file(files, path.into(), known, trigger, sender));
        }
    }

    /// Waits for the next trigger.
    pub(crate) async fn next(&mut self) -> ReloadTrigger {
        tokio::select! {
            Some(trigger) = self.receiver.recv() => trigger,
            () = sleep_until(self.retry_at) => {
                self.retry_at = Instant::now() + RETRY_INTERVAL;
                ReloadTrigger::Retry
            }
        }
    }
}

/// Starts a task that sends `trigger` each time the content of a file changes.
fn watch_file(
    files: FileWatcher,
    path: PathBuf,
    known: Option<Stamp>,
    trigger: ReloadTrigger,
    sender: mpsc::Sender<ReloadTrigger>,
) -> AbortHandle {
    let task = tokio::spawn(async move {
        let mut known = match known {
            Some(known) => Some(known),
            None => read_stamp(&path).await,
        };
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
                let current = read_stamp(&path).await;
                if current.is_some() && current != known {
                    known = current;
                    if sender.send(trigger.clone()).await.is_err() {
                        return;
                    }
                }
                if watch.changed().await.is_err() {
                    break;
                }
                tokio::time::sleep(DEBOUNCE_TIME).await;
            }
        }
    });
    task.abort_handle()
}

/// Stamp of a file, which changes with its content: inode, size and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64, u64, SystemTime);

impl Stamp {
    /// Reads the stamp of a file. Returns `None` if there is no such file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self(metadata.ino(), metadata.len(), metadata.modified().ok()?))
    }

    /// Reads the stamp of a plugin. Returns `None` for a bundled plugin, which has no file.
    pub(crate) fn of_plugin(name: &str) -> Option<Self> {
        if is_path(name) { Self::of(Path::new(name)) } else { None }
    }
}

async fn read_stamp(path: &Path) -> Option<Stamp> {
    let path = path.to_owned();
    spawn_blocking(move || Stamp::of(&path)).await.ok()?
}

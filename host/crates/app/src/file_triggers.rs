//! File triggers: changes of the configuration file and of plugin files lead to a reload.

use crate::reload_queue::ReloadTrigger;
use reloader_fs_watch::{FileFingerprint, FileWatcher};
use reloader_plugin_runtime::is_path;
use std::{
    collections::BTreeMap,
    future::pending,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, spawn_blocking},
};
use tracing::warn;

/// Debounce time after a change of a file, for a writer to finish.
const DEBOUNCE_TIME: Duration = Duration::from_millis(100);
/// Time until a file whose watch failed is watched again.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of queued triggers.
const MAX_QUEUED_TRIGGERS: usize = 64;

/// Watches the configuration file and the plugin files.
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

    /// Replaces the set of watched plugins. The fingerprints are those of the files when they were loaded.
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
            let (files, sender) = (self.files.clone(), self.sender.clone());
            self.plugins
                .entry(path.clone())
                .or_insert_with(|| watch_file(files, path.into(), known, trigger, sender));
        }
    }

    /// Waits for the next trigger.
    pub(crate) async fn next(&mut self) -> ReloadTrigger {
        // The channel never closes: `self` holds a sender.
        match self.receiver.recv().await {
            Some(trigger) => trigger,
            None => pending().await,
        }
    }
}

/// Ends the tasks that watch files.
impl Drop for FileTriggers {
    fn drop(&mut self) {
        self.config.abort();
        self.plugins.values().for_each(AbortHandle::abort);
    }
}

/// Starts a task that sends `trigger` each time the content of a file changes.
fn watch_file(
    files: FileWatcher,
    path: PathBuf,
    known: Option<FileFingerprint>,
    trigger: ReloadTrigger,
    sender: mpsc::Sender<ReloadTrigger>,
) -> AbortHandle {
    let task = tokio::spawn(async move {
        let mut known = match known {
            Some(known) => Some(known),
            None => read_fingerprint(&path).await,
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
                let current = read_fingerprint(&path).await;
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

async fn read_fingerprint(path: &Path) -> Option<FileFingerprint> {
    let path = path.to_owned();
    spawn_blocking(move || FileFingerprint::read(&path)).await.ok()?
}

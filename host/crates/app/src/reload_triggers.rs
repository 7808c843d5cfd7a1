//! What changes around a running host: its configuration file, its plugins' files.

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

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// The configuration file.
    Config,
    /// The file of a plugin.
    Plugin(String),
    /// Nothing; but what did not work may work now.
    TryAgain,
}

/// Watches files.
#[derive(Debug)]
pub(crate) struct News {
    files: FileWatcher,
    sender: mpsc::Sender<Changed>,
    receiver: mpsc::Receiver<Changed>,
    plugins: BTreeMap<String, AbortHandle>,
    again_at: Instant,
}

/// Who writes a file may take a while.
const SETTLE: Duration = Duration::from_millis(100);
/// How often what did not work is tried again.
pub(crate) const AGAIN: Duration = Duration::from_secs(30);
/// A file that cannot be watched is tried again after this.
const WATCH_AGAIN: Duration = Duration::from_secs(10);

impl News {
    /// Of a configuration file, at first, from what it was like when it was read.
    pub(crate) fn new(config: &Path, known: Option<Stamp>) -> Self {
        let (sender, receiver) = mpsc::channel(64);
        let files = FileWatcher::new();
        let again_at = Instant::now() + AGAIN;
        follow(files.clone(), config.into(), known, Changed::Config, sender.clone());
        Self { files, sender, receiver, plugins: BTreeMap::new(), again_at }
    }

    /// And of these plugins, as far as they are files, from what they were like when they were loaded.
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
            let changed = Changed::Plugin(path.clone());
            let (files, sender) = (self.files.clone(), self.sender.clone());
            self.plugins
                .entry(path.clone())
                .or_insert_with(|| follow(files, path.into(), known, changed, sender));
        }
    }

    /// The next thing that has changed.
    pub(crate) async fn next(&mut self) -> Changed {
        tokio::select! {
            Some(changed) = self.receiver.recv() => changed,
            () = sleep_until(self.again_at) => {
                self.again_at = Instant::now() + AGAIN;
                Changed::TryAgain
            }
        }
    }
}

/// Says that a file has changed each time that its content is another one.
fn follow(
    files: FileWatcher,
    path: PathBuf,
    known: Option<Stamp>,
    changed: Changed,
    sender: mpsc::Sender<Changed>,
) -> AbortHandle {
    let task = tokio::spawn(async move {
        let mut known = match known {
            Some(known) => Some(known),
            None => stamp(&path).await,
        };
        loop {
            let mut watch = match files.watch(&path).await {
                Ok(watch) => watch,
                Err(error) => {
                    warn!("`{}` cannot be watched: {error}", path.display());
                    tokio::time::sleep(WATCH_AGAIN).await;
                    continue;
                }
            };
            // What has changed before it was watched is seen too.
            loop {
                let now = stamp(&path).await;
                if now.is_some() && now != known {
                    known = now;
                    if sender.send(changed.clone()).await.is_err() {
                        return;
                    }
                }
                if watch.changed().await.is_err() {
                    break;
                }
                tokio::time::sleep(SETTLE).await;
            }
        }
    });
    task.abort_handle()
}

/// What tells one content of a file from the next: its inode, its size and when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64, u64, SystemTime);

impl Stamp {
    /// Of a file that is there.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self(metadata.ino(), metadata.len(), metadata.modified().ok()?))
    }

    /// Of a plugin that is a file.
    pub(crate) fn of_plugin(name: &str) -> Option<Self> {
        if is_path(name) { Self::of(Path::new(name)) } else { None }
    }
}

async fn stamp(path: &Path) -> Option<Stamp> {
    let path = path.to_owned();
    spawn_blocking(move || Stamp::of(&path)).await.ok()?
}

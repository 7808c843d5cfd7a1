//! Client of a file watcher that reads a path only after the watch reports a change.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]
#![allow(unreachable_pub, reason = "each test crate includes this file as a module")]
#![allow(dead_code, reason = "each test crate uses a part of this module")]

use reloader_fs_watch::{FileWatcher, PathWatch};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// Interval that is longer than any test. It disables polling and wait timeouts.
pub const NEVER: Duration = Duration::from_secs(3600);
/// Maximum wait for a change, reached only on failure.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Task that watches a path, and the last content that the task has read after a reported change.
pub struct Consumer {
    latest: watch::Receiver<Option<Vec<u8>>>,
}

impl Consumer {
    /// Watches `path` in a task. After each `wait_timeout`, the task drops its call of
    /// [`PathWatch::changed`] and starts another one.
    pub async fn start(files: &FileWatcher, path: &Path, wait_timeout: Duration) -> Self {
        let watch = files.watch(path).await.unwrap();
        let first = read(files, path, &watch).await;
        let (sender, latest) = watch::channel(first);
        let (files, path) = (files.clone(), PathBuf::from(path));
        tokio::spawn(follow(files, path, watch, sender, wait_timeout));
        Self { latest }
    }

    /// Waits until the consumer has read `content`.
    pub async fn wait_for(&mut self, content: Option<&[u8]>) -> Result<(), String> {
        let received = self.latest.wait_for(|latest| latest.as_deref() == content);
        match timeout(CHANGE_TIMEOUT, received).await.map(|received| received.is_ok()) {
            Ok(true) => return Ok(()),
            Ok(false) => return Err("the watch has ended".into()),
            Err(_) => {}
        }
        let latest = self.latest.borrow();
        Err(format!("{:?} instead of {:?}", text(latest.as_deref()), text(content)))
    }
}

/// Reads the path after each change until the consumer is dropped.
async fn follow(
    files: FileWatcher,
    path: PathBuf,
    mut watch: PathWatch,
    latest: watch::Sender<Option<Vec<u8>>>,
    wait_timeout: Duration,
) {
    loop {
        tokio::select! {
            changed = timeout(wait_timeout, watch.changed()) => match changed {
                Ok(Ok(())) => {}
                // The watch has failed, for example because the runtime shuts down.
                Ok(Err(_)) => return,
                Err(_) => continue,
            },
            () = latest.closed() => return,
        }
        latest.send_replace(read(&files, &path, &watch).await);
    }
}

async fn read(files: &FileWatcher, path: &Path, watch: &PathWatch) -> Option<Vec<u8>> {
    files.read(path, 1 << 20, &watch.last_writer()).await.ok()
}

/// Converts content to text for an error message.
pub fn text(content: Option<&[u8]>) -> Option<String> {
    content.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Waits for reported changes until a read returns `content`.
pub async fn wait_for_content(
    files: &FileWatcher,
    watch: &mut PathWatch,
    path: &Path,
    content: &str,
) {
    let received = async {
        loop {
            watch.changed().await.unwrap();
            let read = files.read(path, 1 << 20, &watch.last_writer()).await;
            if read.is_ok_and(|read| read == content.as_bytes()) {
                return;
            }
        }
    };
    timeout(CHANGE_TIMEOUT, received)
        .await
        .unwrap_or_else(|_| panic!("{content:?} has not arrived"));
}

//! Somebody who keeps the last content of a path, and reads it only when it is said to have changed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(unreachable_pub, reason = "each crate of tests includes this as a module of its own")]

use reloader_fs_watch::{FileWatcher, PathWatch};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// Only reached on failure.
const DEADLINE: Duration = Duration::from_secs(20);

/// Keeps the last content of a path, as somebody does who reads after each change and not else.
pub struct Consumer {
    latest: watch::Receiver<Option<Vec<u8>>>,
}

impl Consumer {
    /// `patience`: how long it waits at a time; then it drops what it waited with, and begins anew.
    pub async fn start(files: &FileWatcher, path: &Path, patience: Duration) -> Self {
        let watch = files.watch(path).await.unwrap();
        let first = read(files, path, &watch).await;
        let (sender, latest) = watch::channel(first);
        let (files, path) = (files.clone(), PathBuf::from(path));
        tokio::spawn(keep(files, path, watch, sender, patience));
        Self { latest }
    }

    pub async fn comes_to_know(&mut self, content: Option<&[u8]>) -> Result<(), String> {
        let known = self.latest.wait_for(|latest| latest.as_deref() == content);
        match timeout(DEADLINE, known).await.map(|known| known.is_ok()) {
            Ok(true) => return Ok(()),
            Ok(false) => return Err("the watch has ended".into()),
            Err(_) => {}
        }
        let latest = self.latest.borrow();
        Err(format!("{:?} instead of {:?}", text(latest.as_deref()), text(content)))
    }
}

async fn keep(
    files: FileWatcher,
    path: PathBuf,
    mut watch: PathWatch,
    latest: watch::Sender<Option<Vec<u8>>>,
    patience: Duration,
) {
    loop {
        tokio::select! {
            changed = timeout(patience, watch.changed()) => match changed {
                Ok(Ok(())) => {}
                // The runtime ends.
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

pub fn text(content: Option<&[u8]>) -> Option<String> {
    content.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

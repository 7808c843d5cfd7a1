//! Unusual arguments of a file watcher: extreme intervals, relative and empty paths.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod consumer;

use consumer::{NEVER, wait_for_content};
use reloader_fs_watch::FileWatcher;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;

#[tokio::test]
async fn extreme_intervals_are_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "0").unwrap();
    for every in [Duration::ZERO, Duration::MAX] {
        let files = FileWatcher::new().poll_interval(every).retry_every(every);
        // The kernel reports no changes of a pseudo file, so it is polled at the interval.
        let mut pseudo_file = files.watch(Path::new("/proc/self/stat")).await.unwrap();
        let _ = timeout(Duration::from_millis(10), pseudo_file.changed()).await;
        let mut watch = files.watch(&path).await.unwrap();
        fs::write(&path, format!("{every:?}")).unwrap();
        wait_for_content(&files, &mut watch, &path, &format!("{every:?}")).await;
    }
}

#[test]
fn relative_path_uses_current_directory() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let files = FileWatcher::new().poll_interval(NEVER);
        // The current directory of a test is the directory of the package.
        let directory = tempfile::tempdir_in(".").unwrap();
        let path = PathBuf::from(directory.path().file_name().unwrap()).join("f");
        assert!(path.is_relative());
        let mut watch = files.watch(&path).await.unwrap();
        fs::write(&path, "1").unwrap();
        wait_for_content(&files, &mut watch, &path, "1").await;
        assert!(files.watch(Path::new("")).await.is_err());
    });
}

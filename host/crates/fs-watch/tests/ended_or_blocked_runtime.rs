//! The event listener in unusual runtimes: one that ends, and one whose only worker is blocked.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod consumer;

use consumer::{CHANGE_TIMEOUT, NEVER, wait_for_content};
use reloader_fs_watch::FileWatcher;
use std::fs;
use tokio::time::timeout;

/// The runtime in which the watcher starts is dropped. The watch continues in a second runtime.
#[test]
fn watcher_outlives_its_first_runtime() {
    let files = FileWatcher::new().poll_interval(NEVER);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "0").unwrap();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let mut watch = first.block_on(files.watch(&path)).unwrap();
    drop(first);
    let second = runtime();
    second.block_on(async {
        for content in ["1", "2"] {
            fs::write(&path, content).unwrap();
            wait_for_content(&files, &mut watch, &path, content).await;
        }
    });
}

/// The watcher starts in a runtime whose only worker is then blocked. The event listener runs on a thread of its own
/// there, so a watch in a second runtime receives its change in time.
#[test]
fn blocked_worker_does_not_delay_events() {
    let files = FileWatcher::new().poll_interval(NEVER);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "0").unwrap();
    let first = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let first = first.unwrap();
    let _keep = first.block_on(files.watch(&path)).unwrap();
    let (blocked_sender, blocked) = std::sync::mpsc::channel();
    let (unblock_sender, unblock) = std::sync::mpsc::channel::<()>();
    first.spawn(async move {
        blocked_sender.send(()).unwrap();
        let _ = unblock.recv();
    });
    blocked.recv().unwrap();
    let second = tokio::runtime::Runtime::new().unwrap();
    let received = second.block_on(async {
        let mut watch = files.watch(&path).await.unwrap();
        fs::write(&path, "1").unwrap();
        let received = wait_for_content(&files, &mut watch, &path, "1");
        timeout(CHANGE_TIMEOUT / 4, received).await
    });
    drop(unblock_sender);
    assert!(received.is_ok(), "the change arrived too late");
}

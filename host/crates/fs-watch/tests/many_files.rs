//! Thousands of watched files, and thousands of changes beside a watched file.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]
#![allow(clippy::print_stdout, reason = "times are printed")]

mod consumer;

use consumer::{CHANGE_TIMEOUT, NEVER, wait_for_content};
use reloader_fs_watch::FileWatcher;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::time::timeout;

/// Creates a directory for many files, in memory if possible.
fn large_tempdir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_files_are_watched() {
    const FILES: usize = 10_000;
    let files = FileWatcher::new().poll_interval(NEVER);
    let directory = large_tempdir();
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let received = Arc::new(AtomicUsize::new(0));
    for number in 0..FILES {
        let path = directory.path().join(number.to_string());
        fs::write(&path, "0").unwrap();
        let mut watch = files.watch(&path).await.unwrap();
        let (files, received) = (files.clone(), Arc::clone(&received));
        tasks.spawn(async move {
            loop {
                watch.changed().await.unwrap();
                let read = files.read(&path, 10, &watch.last_writer()).await;
                if read.is_ok_and(|content| content == b"1") {
                    received.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        });
    }
    println!("all files watched after {:?}", start.elapsed());
    let start = Instant::now();
    for number in 0..FILES {
        let new = directory.path().join("new");
        fs::write(&new, "1").unwrap();
        fs::rename(new, directory.path().join(number.to_string())).unwrap();
    }
    let all = async { while tasks.join_next().await.transpose().unwrap().is_some() {} };
    let done = timeout(CHANGE_TIMEOUT, all).await;
    let received = received.load(Ordering::Relaxed);
    assert!(done.is_ok(), "{received} of {FILES} changes arrived");
    println!("all changes arrived after {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_siblings_do_not_hide_changes() {
    let files = FileWatcher::new().poll_interval(NEVER);
    let directory = large_tempdir();
    let root = directory.path().to_owned();
    for number in 0..10_000 {
        fs::write(root.join(format!("n{number}")), "").unwrap();
    }
    let path = root.join("f");
    fs::write(&path, "0").unwrap();
    let mut watch = files.watch(&path).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let churn = std::thread::spawn(move || {
        for number in (0..10_000).cycle() {
            let neighbour = root.join(format!("n{number}"));
            fs::write(&neighbour, "x").unwrap();
            fs::remove_file(&neighbour).unwrap();
            if stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    for number in 1..=50 {
        let content = number.to_string();
        fs::write(&path, &content).unwrap();
        wait_for_content(&files, &mut watch, &path, &content).await;
    }
    stop.store(true, Ordering::Relaxed);
    churn.join().unwrap();
}

//! Benchmark of the state store: latency of writes of one source and of 1000 sources, time to close and open the store,
//! and size of the database file.
//!
//! `cargo bench -p reloader-state`
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

#[path = "../tests/state/harness.rs"]
mod harness;

use harness::{DEADLINE, app, open, record, save};
use reloader_engine::types::SourceName;
use reloader_state::Saved;
use std::{sync::mpsc, time::Instant};

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    for (what, bytes) in [("1 KiB", 1 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let value = "x".repeat(bytes);
        let mut took: Vec<_> = (1..=500)
            .map(|revision| {
                let record = record(revision, &value);
                let before = Instant::now();
                assert_eq!(save(&state, &app(), record), Saved::Durable);
                before.elapsed()
            })
            .collect();
        took.sort();
        println!(
            "one source, {what}: median {:?}, 99th percentile {:?}",
            took[took.len() / 2],
            took[took.len() * 99 / 100]
        );
    }
    let names: Vec<_> = (0..1000).map(|n| SourceName::new(format!("source {n}"))).collect();
    for round in 1..=5_u64 {
        let commits = state.health().commits;
        let (sender, receiver) = mpsc::channel();
        let before = Instant::now();
        for name in &names {
            let sender = sender.clone();
            state.record(name, record(round, &"x".repeat(1 << 10)), move |_| {
                let _ = sender.send(before.elapsed());
            });
        }
        let queued = before.elapsed();
        let mut took: Vec<_> =
            names.iter().map(|_| receiver.recv_timeout(DEADLINE).unwrap()).collect();
        took.sort();
        println!(
            "1000 sources at once, 1 KiB each: queued in {queued:?}, median {:?}, all {:?}, {} commits",
            took[500],
            took[999],
            state.health().commits - commits
        );
    }
    let before = Instant::now();
    state.close(DEADLINE).unwrap();
    println!("closed in {:?}", before.elapsed());
    let before = Instant::now();
    let state = open(directory.path());
    let opened = before.elapsed();
    let length = std::fs::metadata(directory.path().join("state.redb")).unwrap().len();
    println!("opened in {opened:?}, {} KiB", length >> 10);
    let before = Instant::now();
    for name in &names {
        assert!(state.restore(name).unwrap().is_some());
    }
    println!("restored 1000 sources in {:?}", before.elapsed());
}

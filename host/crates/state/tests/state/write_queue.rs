//! Write queue: order of the completions, bounds, concurrent readers, closing.

use crate::harness::{DEADLINE, app, content, open, record, save};
use reloader_state::{ReadError, Saved};
use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

#[test]
fn completions_run_in_order_and_queue_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let completed = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = mpsc::channel::<()>();
    for revision in 1..=2000_u64 {
        let (completed, sender) = (Arc::clone(&completed), sender.clone());
        state.record(&app(), record(revision, &revision.to_string()), move |saved| {
            if saved != Saved::Replaced {
                assert_eq!(saved, Saved::Durable);
                completed.lock().unwrap().push(revision);
            }
            drop(sender);
        });
    }
    drop(sender);
    // The channel closes when every completion was called or dropped.
    assert!(receiver.recv_timeout(DEADLINE).is_err());
    let completed = completed.lock().unwrap();
    assert!(completed.is_sorted(), "{completed:?}");
    assert_eq!(completed.last(), Some(&2000), "the newest record is never replaced");
    assert!(completed.len() < 2000, "the queue holds fewer records");
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!(restored.revision.get(), 2000);
    assert!(state.health().commits < 2000, "several records share a transaction");
}

#[test]
fn record_is_readable_in_completion() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let (sender, receiver) = mpsc::channel();
    let reader = state.clone();
    state.record(&app(), record(1, "a"), move |_| sender.send(content(&reader, 1)).unwrap());
    // Now only the completion holds a handle. The writer thread drops this last handle, and must not wait for itself.
    drop(state);
    let before = Instant::now();
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), Some("a".into()));
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

#[test]
fn panic_in_completion_is_isolated() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    state.record(&app(), record(1, "a"), |_| panic!("on purpose"));
    assert_eq!(save(&state, &app(), record(2, "b")), Saved::Durable);
}

#[test]
fn readers_do_not_block_writer() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, &"x".repeat(1 << 20)));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let state = state.clone();
            std::thread::spawn(move || {
                let mut reads = 0_u32;
                while state.restore(&app()).unwrap().unwrap().revision.get() < 100 {
                    state.history(&app()).unwrap();
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for revision in 2..=100 {
        assert_eq!(save(&state, &app(), record(revision, &"x".repeat(1 << 20))), Saved::Durable);
    }
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}

#[test]
fn close_writes_queue_and_rejects_later_records() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    for revision in 1..=100 {
        state.record(&app(), record(revision, "a"), |_| {});
    }
    state.close(DEADLINE).unwrap();
    let closed = Saved::NotDurable("store is closed".into());
    assert_eq!(save(&state, &app(), record(101, "b")), closed);
    assert_eq!(state.history(&app()), Err(ReadError::Unavailable("store is closed".into())));
    // The directory can be opened again while the closed handle exists.
    let again = open(directory.path());
    assert_eq!(again.restore(&app()).unwrap().unwrap().revision.get(), 100);
    drop(state);
    // Dropping the last handle also writes the queue.
    again.record(&app(), record(101, "b"), |_| {});
    drop(again);
    assert_eq!(content(&open(directory.path()), 101), Some("b".into()));
}

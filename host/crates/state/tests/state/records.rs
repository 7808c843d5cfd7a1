//! Stored records: values, history, pins, delivery records and rejected values, and how long they are kept.

use crate::{DEADLINE, app, content, flush, open, open_with, record, restart, save};
use reloader_engine::types::{Cursor, Snapshot, SourceName};
use reloader_state::{
    Digest, HistoryEvent, ReadError, Record, RejectedValue, Saved, Settings, State,
};
use reloader_util::units::{Size, Time};
use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

#[test]
fn source_restores_last_value() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    assert_eq!(state.restore(&app()).unwrap(), None);
    let value = Snapshot {
        media_type: Some("text/plain".into()),
        cursor: Some(Cursor::new("?token=secret&index=7").shown_as("?token=***&index=7")),
        ..Snapshot::new("a")
    };
    let at = "2026-01-02T03:04:05Z".parse().unwrap();
    let first = Record { at, ..Record::new(3.into(), Some(value.clone())) };
    assert_eq!(save(&state, &app(), first), Saved::Durable);

    let state = restart(state, directory.path());
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!((restored.revision, restored.at, restored.pinned), (3.into(), at, None));
    let cursor = restored.value.as_ref().unwrap().cursor.as_ref().unwrap();
    assert_eq!(cursor.to_string(), "?token=***&index=7", "secret part is redacted");
    assert_eq!(restored.value, Some(value));

    // A removal is stored too.
    save(&state, &app(), Record::new(4.into(), None));
    let state = restart(state, directory.path());
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!((restored.revision, restored.value), (4.into(), None));
}

#[test]
fn revision_never_decreases() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let revision = |state: &State| state.restore(&app()).unwrap().unwrap().revision.get();
    save(&state, &app(), record(7, "a"));
    save(&state, &app(), record(7, "a"));
    assert_eq!(revision(&state), 7, "the same value keeps its revision");
    // The source was not restored before this record.
    save(&state, &app(), record(1, "b"));
    assert_eq!(revision(&state), 8);
    let state = restart(state, directory.path());
    assert_eq!((revision(&state), content(&state, 8)), (8, Some("b".into())));
    assert_eq!(content(&state, 7), Some("a".into()));
}

#[test]
fn history_has_all_revisions() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, "a"));
    save(&state, &app(), record(2, "bc"));
    save(&state, &app(), Record::new(3.into(), None));
    let back = Record { rolled_back_to: Some(1.into()), ..record(4, "a") };
    save(&state, &app(), back);

    let history = state.history(&app()).unwrap();
    let entries: Vec<_> =
        history.iter().map(|entry| (entry.revision.get(), entry.event, entry.size)).collect();
    assert_eq!(
        entries,
        [
            (4, HistoryEvent::RolledBack { to: 1.into() }, 1),
            (3, HistoryEvent::Removed, 0),
            (2, HistoryEvent::Changed, 2),
            (1, HistoryEvent::Changed, 1),
        ]
    );
    assert_eq!(history[2].digest, Some(Digest::of(b"bc")));
    assert_eq!(history[1].digest, None);
    let contents: Vec<_> = (1..=5).map(|revision| content(&state, revision)).collect();
    assert_eq!(contents, [Some("a".into()), Some("bc".into()), None, Some("a".into()), None]);
}

#[test]
fn history_is_bounded_but_keeps_current_value() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { history: 3, history_size: Size(100), ..Settings::default() };
    let state = open_with(directory.path(), settings);
    let revisions = |state: &State| {
        let history = state.history(&app()).unwrap();
        history.iter().map(|entry| entry.revision.get()).collect::<Vec<_>>()
    };
    for revision in 1..=5 {
        save(&state, &app(), record(revision, "sample"));
    }
    assert_eq!(revisions(&state), [5, 4, 3]);
    save(&state, &app(), record(6, &"x".repeat(90)));
    assert_eq!(revisions(&state), [6, 5], "at most 100 bytes are stored");
    save(&state, &app(), record(7, &"y".repeat(1000)));
    assert_eq!(revisions(&state), [7]);
    assert_eq!(content(&state, 7), Some("y".repeat(1000)));
    assert_eq!(content(&state, 6), None);
}

#[test]
fn pin_is_kept_until_removed() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let pinned = |state: &State| state.restore(&app()).unwrap().unwrap().pinned;
    save(&state, &app(), record(1, "a"));
    save(&state, &app(), record(2, "b"));
    let back = Record { rolled_back_to: Some(1.into()), ..record(3, "a") };
    save(&state, &app(), back);
    let state = restart(state, directory.path());
    assert_eq!(pinned(&state), Some(1.into()));
    state.pin(&app(), None);
    let state = restart(state, directory.path());
    assert_eq!(pinned(&state), None);
    // A published value can be pinned without a new revision.
    state.pin(&app(), Some(3.into()));
    let state = restart(state, directory.path());
    assert_eq!(pinned(&state), Some(3.into()));
    save(&state, &app(), record(4, "c"));
    assert_eq!(pinned(&state), None, "a normal record removes the pin");
}

#[test]
fn delivery_records_are_kept_per_sink() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, "a"));
    // A source name with the same prefix is a different source.
    save(&state, &SourceName::new("app2"), record(1, "a"));
    state.record_delivery(&SourceName::new("app2"), "file", 1.into(), Digest::of(b"other"));
    state.record_delivery(&app(), "file", 1.into(), Digest::of(b"a"));
    state.record_delivery(&app(), "webhook", 1.into(), Digest::of(b"{a}"));
    state.record_delivery(&app(), "file", 2.into(), Digest::of(b"b"));
    let state = restart(state, directory.path());
    let delivered = state.restore(&app()).unwrap().unwrap().delivered;
    let digests: Vec<_> =
        delivered.iter().map(|(sink, record)| (&sink[..], record.digest)).collect();
    assert_eq!(digests, [("file", Digest::of(b"b")), ("webhook", Digest::of(b"{a}"))]);
    // The number of delivery records is bounded.
    for number in 0..200 {
        state.record_delivery(&app(), &format!("sink {number}"), 2.into(), Digest::of(b"b"));
        flush(&state);
    }
    assert_eq!(state.restore(&app()).unwrap().unwrap().delivered.len(), 64);
}

#[test]
fn last_rejected_value_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    save(&state, &app(), record(1, "a"));
    let rejection = |content: &str| RejectedValue {
        value: Snapshot::new(content.to_owned()),
        reason: "line 1: expected a table\n".into(),
        at: jiff::Timestamp::now(),
        secret: false,
    };
    state.record_rejection(&app(), rejection("b"));
    let state = restart(state, directory.path());
    let rejected = state.last_rejection(&app()).unwrap().unwrap();
    assert_eq!(rejected.reason, "line 1: expected a table\\n");
    assert_eq!(rejected.content.as_deref(), Some(&b"b"[..]));
    state.record_rejection(&app(), rejection(&"x".repeat(2 << 20)));
    flush(&state);
    let rejected = state.last_rejection(&app()).unwrap().unwrap();
    assert_eq!((rejected.size, rejected.content), (2 << 20, None), "large content is not stored");
    state.record_rejection(&app(), RejectedValue { secret: true, ..rejection("password") });
    flush(&state);
    let rejected = state.last_rejection(&app()).unwrap().unwrap();
    assert_eq!((&rejected.reason[..], rejected.content), ("(not stored)", None));
}

#[test]
fn secret_values_are_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let found = |needle: &str| {
        let bytes = std::fs::read(directory.path().join("state.redb")).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    let state = open(directory.path());
    let value =
        Snapshot { cursor: Some(Cursor::new("cursor-hunter2")), ..Snapshot::new("hunter2-one") };
    let secret = |revision: u64, value: &Snapshot| Record {
        secret: true,
        ..Record::new(revision.into(), Some(value.clone()))
    };
    save(&state, &app(), secret(1, &value));
    let state = restart(state, directory.path());
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!((restored.revision, restored.value), (1.into(), None));
    let entry = state.history(&app()).unwrap().remove(0);
    assert_eq!((entry.digest, entry.is_stored), (Some(Digest::of(b"hunter2-one")), false));
    assert!(!found("hunter2"));

    // The stored values of a source are deleted when it becomes secret, before its next record.
    let other = SourceName::new("other");
    save(&state, &other, Record::new(1.into(), Some(value)));
    state.set_configured([(app(), true), (other.clone(), true)]);
    let state = restart(state, directory.path());
    let restored = state.restore(&other).unwrap().unwrap();
    assert_eq!((restored.revision, restored.value), (1.into(), None));
}

#[test]
fn store_values_off_applies_to_all_sources() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { store_values: false, ..Settings::default() };
    let state = open_with(directory.path(), settings);
    save(&state, &app(), record(1, "a"));
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!((restored.revision, restored.value), (1.into(), None));
}

#[test]
fn removed_sources_are_deleted_later() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let names = |state: &State| {
        let sources = state.sources().unwrap();
        sources.iter().map(|summary| summary.source.to_string()).collect::<Vec<_>>()
    };
    for name in ["a", "b", "c", "d"] {
        save(&state, &SourceName::new(name), record(1, name));
    }
    state.set_configured([(SourceName::new("a"), false)]);
    let state = restart(state, directory.path());
    assert_eq!(names(&state), ["a", "b", "c", "d"]);
    state.close(DEADLINE).unwrap();

    let settings = Settings { max_removed: 2, ..Settings::default() };
    let state = open_with(directory.path(), settings);
    state.set_configured([(SourceName::new("a"), false)]);
    flush(&state);
    assert_eq!(names(&state), ["a", "c", "d"], "the oldest removed source is deleted");
    let gone = SourceName::new("b");
    assert_eq!(state.restore(&gone).unwrap(), None);
    assert_eq!(state.history(&gone).unwrap(), []);
    assert_eq!(state.value(&gone, 1.into()).unwrap(), None);
    state.close(DEADLINE).unwrap();

    let settings = Settings { keep_removed: Time(Duration::from_millis(1)), ..Settings::default() };
    let state = open_with(directory.path(), settings);
    std::thread::sleep(Duration::from_millis(5));
    state.set_configured([(SourceName::new("a"), false)]);
    flush(&state);
    assert_eq!(names(&state), ["a"]);
    let (sender, receiver) = mpsc::channel();
    state.forget(&SourceName::new("a"), move |saved| sender.send(saved).unwrap());
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), Saved::Durable);
    assert_eq!(names(&state), [""; 0]);
}

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
    // The completion then holds the last handle. Dropping it must not wait for the writer thread itself.
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

#[test]
fn file_size_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { history: 5, ..Settings::default() };
    let length = || std::fs::metadata(directory.path().join("state.redb")).unwrap().len();
    let state = open_with(directory.path(), settings.clone());
    for revision in 1..=1000 {
        save(&state, &app(), record(revision, &"x".repeat(100_000)));
    }
    // 100 MB were written, and 600 kB are kept.
    assert!(length() < 8 << 20, "{}", length());
    // Compaction on open also shrinks the file after a crash.
    save(&state, &app(), record(1001, &"x".repeat(20 << 20)));
    save(&state, &app(), record(1002, "sample"));
    assert!(length() > 20 << 20);
    let crashed = tempfile::tempdir().unwrap();
    let copy = crashed.path().join("state.redb");
    std::fs::copy(directory.path().join("state.redb"), &copy).unwrap();
    let again = open_with(crashed.path(), settings);
    assert_eq!(content(&again, 1002), Some("sample".into()));
    let length = std::fs::metadata(&copy).unwrap().len();
    assert!(length < 4 << 20, "{length}");
}

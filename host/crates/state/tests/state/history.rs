//! Value history: its entries, its limits, and the size of the file.

use crate::harness::{app, content, open, open_with, record, save};
use reloader_state::{Digest, HistoryEvent, Record, Retention, State};

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
    let retention = Retention { max_revisions: 3, max_history_bytes: 100, ..Retention::default() };
    let state = open_with(directory.path(), retention);
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
fn file_size_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let retention = Retention { max_revisions: 5, ..Retention::default() };
    let length = || std::fs::metadata(directory.path().join("state.redb")).unwrap().len();
    let state = open_with(directory.path(), retention.clone());
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
    let again = open_with(crashed.path(), retention);
    assert_eq!(content(&again, 1002), Some("sample".into()));
    let length = std::fs::metadata(&copy).unwrap().len();
    assert!(length < 4 << 20, "{length}");
}

//! State files that are removed while the host runs: the writer thread detects this and writes them again, with the
//! history.

use crate::harness::{DEADLINE, app, content, open, record, save};
use reloader_state::{Health, Saved, State};
use std::{fs, path::Path, thread, time::Instant};

fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_true() {
        assert!(Instant::now() < end, "timed out waiting for {what}");
        thread::yield_now();
    }
}

fn with_history(directory: &Path) -> State {
    let state = open(directory);
    for (revision, value) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(save(&state, &app(), record(revision, value)), Saved::Durable);
    }
    state
}

fn assert_stored(directory: &Path, revisions: &[u64]) {
    let state = open(directory);
    let history = state.history(&app()).unwrap();
    let found: Vec<_> = history.iter().map(|entry| entry.revision.get()).collect();
    assert_eq!(found, revisions);
    assert_eq!(content(&state, 2), Some("b".into()));
}

/// A record that is written after a file was removed goes to a new database, together with all earlier records.
#[test]
fn record_after_removal_is_durable_with_history() {
    for remove in ["directory", "state.redb", "lock"] {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let state = with_history(&directory);
        match remove {
            "directory" => fs::remove_dir_all(&directory).unwrap(),
            file => fs::remove_file(directory.join(file)).unwrap(),
        }
        assert_eq!(save(&state, &app(), record(4, "d")), Saved::Durable, "{remove}");
        let Health { failing, failures, .. } = state.health();
        assert_eq!((failing, failures), (None, 1), "{remove}");
        // A copy of the database stands for the state after a kill at this point.
        let killed = parent.path().join("killed");
        fs::create_dir(&killed).unwrap();
        fs::copy(directory.join("state.redb"), killed.join("state.redb")).unwrap();
        assert_stored(&killed, &[4, 3, 2, 1]);
        drop(state);
        assert_stored(&directory, &[4, 3, 2, 1]);
    }
}

/// The writer thread also checks the files periodically. Without a write, the database is created again after the
/// removal of the directory.
#[test]
fn removal_without_writes_is_noticed() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let state = with_history(&directory);
    fs::rename(&directory, parent.path().join("moved")).unwrap();
    wait_until("the database", || directory.join("state.redb").exists());
    wait_until("the recovery", || state.health().failing.is_none() && state.health().failures > 0);
    drop(state);
    assert_stored(&directory, &[3, 2, 1]);
}

/// Another file at the path of the database, such as a restored backup, is moved aside, and the open database is
/// written again.
#[test]
fn replaced_database_is_moved_aside() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let state = with_history(&directory);
    fs::remove_file(directory.join("state.redb")).unwrap();
    fs::write(directory.join("state.redb"), "backup").unwrap();
    assert_eq!(save(&state, &app(), record(4, "d")), Saved::Durable);
    drop(state);
    let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let moved = entries.filter(|path| path.to_string_lossy().contains("broken-"));
    let moved: Vec<_> = moved.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(moved, ["backup"]);
    assert_stored(&directory, &[4, 3, 2, 1]);
}

/// A file at the path of the removed directory prevents its recovery. The store reports the reason, values stay
/// readable, and all records are written when the file is gone.
#[test]
fn failed_recovery_is_reported_and_retried() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let state = with_history(&directory);
    fs::remove_dir_all(&directory).unwrap();
    fs::write(&directory, "a file in place of the directory").unwrap();
    assert!(matches!(save(&state, &app(), record(4, "d")), Saved::NotDurable(_)));
    let reason = state.health().failing.unwrap().reason;
    assert!(reason.contains("not a directory"), "{reason}");
    assert_eq!((content(&state, 2), content(&state, 4)), (Some("b".into()), Some("d".into())));
    fs::remove_file(&directory).unwrap();
    wait_until("the recovery", || state.health().failing.is_none());
    drop(state);
    assert_stored(&directory, &[4, 3, 2, 1]);
}

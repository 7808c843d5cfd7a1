//! State files that are removed while the host runs: noticed and written again, with the history.

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

/// A write that would go to a removed file is written to a new one, together with everything before it.
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
        // The process is killed here: the copy of the files has everything.
        let killed = parent.path().join("killed");
        fs::create_dir(&killed).unwrap();
        fs::copy(directory.join("state.redb"), killed.join("state.redb")).unwrap();
        assert_stored(&killed, &[4, 3, 2, 1]);
        drop(state);
        assert_stored(&directory, &[4, 3, 2, 1]);
    }
}

/// The files are checked periodically, so that a source that does not change is not lost either.
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

/// Another database at the path, such as a restored backup, is kept beside the running one.
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

/// The directory cannot be created again: the reason is reported, values stay readable, and everything is written
/// when the cause is gone.
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

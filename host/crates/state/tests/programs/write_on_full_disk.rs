//! Writes records while the file size limit of the process simulates a full disk. The arguments are the scenario and
//! the directory of the store. The test `disk_full` sets the limit and starts the program.
#![allow(clippy::unwrap_used, reason = "a failed check ends the process with an error")]
#![allow(clippy::print_stdout, reason = "the test checks the output")]

#[path = "../state/harness.rs"]
mod harness;

use harness::{DEADLINE, app, content, open, record, save};
use reloader_engine::types::Snapshot;
use reloader_engine::types::SourceName;
use reloader_state::{Health, Record, RejectedValue, Saved, State};
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use std::{
    env,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let directory = Path::new(&arguments[2]);
    match arguments[1].as_str() {
        "recover" => recover(directory),
        "less-space" => less_space(directory),
        "close" => close(directory),
        "killed" => killed(directory),
        "killed-again" => killed_again(directory),
        scenario => panic!("unknown scenario {scenario}"),
    }
    println!("finished");
}

/// Writes while the disk is full, and after the limit is removed.
fn recover(directory: &Path) {
    let state = open(directory);
    let other = SourceName::new("other");
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    let large = "x".repeat(700 << 10);
    let Saved::NotDurable(reason) = save(&state, &app(), record(2, &large)) else {
        panic!("the large record was written");
    };
    assert!(reason.contains("File too large"), "{reason}");
    let Health { failing, commits, .. } = state.health();
    assert_eq!(failing.unwrap().reason, reason);

    // Further records do not wait for the disk. If each one waited for a retry, there would be three more failures.
    let failures = state.health().failures;
    for revision in 3..=5 {
        let saved = save(&state, &app(), record(revision, &large));
        assert!(matches!(saved, Saved::NotDurable(_)), "{saved:?}");
    }
    let further = state.health().failures - failures;
    assert!(further < 3, "{further} failures");
    assert!(matches!(save(&state, &other, record(1, "b")), Saved::NotDurable(_)));
    // The stored records and the unwritten ones can be read, also during the retries.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert_eq!(state.restore(&app()).unwrap().unwrap().revision.get(), 5);
        assert_eq!(state.restore(&other).unwrap().unwrap().revision.get(), 1);
        assert_eq!(content(&state, 1), Some("a".into()));
        for revision in 2..=5 {
            assert_eq!(content(&state, revision), Some(large.clone()), "revision {revision}");
        }
    }
    let rejected = RejectedValue {
        value: Snapshot::new("bad"),
        reason: "invalid".into(),
        at: jiff::Timestamp::now(),
        secret: false,
    };
    state.record_rejection(&app(), rejected);
    // A rollback can be read while the disk is full, too.
    let back = Record { rolled_back_to: Some(1.into()), ..record(6, "a") };
    assert!(matches!(save(&state, &app(), back), Saved::NotDurable(_)));
    assert_eq!(revisions(&state), [6, 5, 4, 3, 2, 1]);
    assert_eq!(state.restore(&app()).unwrap().unwrap().pinned, Some(1.into()));
    assert_eq!(state.last_rejection(&app()).unwrap().unwrap().reason, "invalid");
    // This large record also makes the retries fail.
    assert!(matches!(save(&state, &other, record(2, &large)), Saved::NotDurable(_)));
    assert!(state.health().failing.is_some());

    // Removes the limit: there is space again.
    limit_file_size(None);
    let health = recovered(&state);
    assert!(health.failures >= 1 && health.commits > commits, "{health:?}");
    // A retry has written the records, without another call of `record`.
    assert_eq!(revisions(&state), [6, 5, 4, 3, 2, 1]);
    assert_eq!(state.restore(&app()).unwrap().unwrap().revision.get(), 6);
    assert_eq!(state.restore(&app()).unwrap().unwrap().pinned, Some(1.into()));
    assert_eq!(state.restore(&other).unwrap().unwrap().revision.get(), 2);
    assert_eq!(content(&state, 1), Some("a".into()));
    assert_eq!(state.last_rejection(&app()).unwrap().unwrap().reason, "invalid");
    assert_eq!(save(&state, &app(), record(7, "f")), Saved::Durable);
    state.close(DEADLINE).unwrap();
}

/// Raises the limit so that there is space for the newest value, but not for all unwritten values. Only the newest
/// value is stored.
fn less_space(directory: &Path) {
    let state = open(directory);
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    let large = "x".repeat(700 << 10);
    (2..=6).for_each(|revision| publish_unstored(&state, &app(), revision, &large));
    assert_eq!(revisions(&state), [6, 5, 4, 3, 2, 1]);
    limit_file_size(Some(3 << 20));
    recovered(&state);
    assert_eq!(revisions(&state), [6, 1]);
    assert_eq!(content(&state, 6), Some(large));
}

/// Closes the store while the disk is full. The closed store unlocks the directory.
fn close(directory: &Path) {
    let state = open(directory);
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    let saved = save(&state, &app(), record(2, &"x".repeat(2 << 20)));
    assert!(matches!(saved, Saved::NotDurable(_)), "{saved:?}");
    let before = Instant::now();
    let error = state.close(DEADLINE).unwrap_err();
    drop(state);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    assert!(error.reason.contains("File too large"), "{error}");
    assert!(error.reason.ends_with("not stored: revision 2 of `app`"), "{error}");
    // The directory is unlocked.
    drop(open(directory));
}

/// Publishes revisions that cannot be stored, then kills its own process.
fn killed(directory: &Path) {
    let state = open(directory);
    state.record_delivery(&SourceName::new("group"), "command", 1.into(), [7; 32].into());
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    let large = "x".repeat(2 << 20);
    (2..=6).for_each(|revision| publish_unstored(&state, &app(), revision, &large));
    (1..=3).for_each(|revision| publish_unstored(&state, &SourceName::new("other"), revision, "b"));
    kill();
}

/// Opens the store of `killed` on a disk that is already full, publishes further revisions that cannot be stored, and
/// kills its own process.
fn killed_again(directory: &Path) {
    let state = open(directory);
    assert!(state.health().failing.is_some(), "the disk is full");
    for source in [app(), SourceName::new("other")] {
        let revision = state.restore(&source).unwrap().unwrap().revision;
        println!("{source} {revision}");
        (1..=3).for_each(|step| publish_unstored(&state, &source, revision.get() + step, "b"));
    }
    kill();
}

fn publish_unstored(state: &State, source: &SourceName, revision: u64, value: &str) {
    let saved = save(state, source, record(revision, value));
    assert!(matches!(saved, Saved::NotDurable(_)), "{saved:?}");
    println!("{source} {revision}");
}

fn kill() {
    println!("finished");
    std::io::stdout().flush().unwrap();
    kill_process(getpid(), Signal::KILL).unwrap();
}

fn limit_file_size(limit: Option<u64>) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: limit.or(maximum), maximum }).unwrap();
}

fn revisions(state: &State) -> Vec<u64> {
    let history = state.history(&app()).unwrap();
    history.iter().map(|entry| entry.revision.get()).collect()
}

fn recovered(state: &State) -> Health {
    let end = Instant::now() + DEADLINE;
    loop {
        let health = state.health();
        if health.failing.is_none() {
            return health;
        }
        assert!(Instant::now() < end, "{health:?}");
        std::thread::yield_now();
    }
}

//! Writes records while the file size limit of the process is reached. The arguments are the scenario, `recover` or
//! `close`, and the directory of the store. The test `disk_full` sets the limit and starts the program.
#![allow(clippy::unwrap_used, reason = "a failed check ends the process with an error")]
#![allow(clippy::print_stdout, reason = "the test checks the output")]

#[path = "../state/harness.rs"]
mod harness;

use harness::{DEADLINE, app, content, open, record, save};
use reloader_engine::types::SourceName;
use reloader_state::{Health, ReadError, Saved, State};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{env, path::Path, time::Instant};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let directory = Path::new(&arguments[2]);
    match arguments[1].as_str() {
        "recover" => recover(directory),
        "close" => close(directory),
        scenario => panic!("unknown scenario {scenario}"),
    }
    println!("finished");
}

/// Writes while the disk is full, and after there is space again.
fn recover(directory: &Path) {
    let state = open(directory);
    let other = SourceName::new("other");
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    let large = "x".repeat(2 << 20);
    let Saved::NotDurable(reason) = save(&state, &app(), record(2, &large)) else {
        panic!("the large record was written");
    };
    assert!(reason.contains("File too large"), "{reason}");
    let Health { failing, commits, .. } = state.health();
    assert_eq!(failing.unwrap().reason, reason);

    // Further records do not wait for the disk: if each one waited for a retry, there would be as many failures.
    let failures = state.health().failures;
    for revision in 3..=5 {
        let saved = save(&state, &app(), record(revision, &large));
        assert!(matches!(saved, Saved::NotDurable(_)), "{saved:?}");
    }
    let further = state.health().failures - failures;
    assert!(further < 3, "{further} failures");
    assert!(matches!(save(&state, &other, record(1, "b")), Saved::NotDurable(_)));
    // Earlier records can be read, except while the database is reopened for a retry.
    match state.restore(&app()) {
        Ok(restored) => assert_eq!(restored.unwrap().revision.get(), 1),
        Err(error) => assert!(matches!(error, ReadError::Unavailable(_)), "{error}"),
    }

    // There is space again.
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
    let health = recovered(&state);
    assert!(health.failures >= 1 && health.commits > commits, "{health:?}");
    // The newest record of each source is on disk, without another call.
    assert_eq!(state.restore(&app()).unwrap().unwrap().revision.get(), 5);
    assert_eq!(state.restore(&other).unwrap().unwrap().revision.get(), 1);
    assert_eq!(content(&state, 1), Some("a".into()));
    assert_eq!(save(&state, &app(), record(6, "f")), Saved::Durable);
    state.close(DEADLINE).unwrap();
}

/// Closes the store while the disk is full. The closed store unlocks the directory.
fn close(directory: &Path) {
    let state = open(directory);
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    let saved = save(&state, &app(), record(2, &"x".repeat(2 << 20)));
    assert!(matches!(saved, Saved::NotDurable(_)), "{saved:?}");
    let error = state.close(DEADLINE).unwrap_err();
    assert!(error.reason.contains("File too large"), "{error}");
    drop(open(directory));
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

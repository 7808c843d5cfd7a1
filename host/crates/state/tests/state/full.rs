//! A disk that is full: values are published all the same, and written when there is room again.

use crate::{DEADLINE, app, content, open, record, save};
use reloader_engine::types::SourceName;
use reloader_state::{Health, ReadError, Saved, State};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// No file of the process below can be larger, in blocks of 512 bytes.
const BLOCKS: &str = "1000";
const CHILD: &str = "full::what_happens_when_there_is_no_room";

/// A process of its own, in which no file can be larger than half a megabyte.
#[test]
fn a_full_disk_keeps_nothing_from_being_published() {
    let directory = tempfile::tempdir().unwrap();
    let ended = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f $0; exec \"$@\"", BLOCKS])
        .arg(env::current_exe().unwrap())
        .args(["--exact", CHILD, "--ignored", "--nocapture"])
        .env("STATE_FULL", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("it has come to its end"), "{said}");
    // And all of it is there afterwards.
    let state = open(directory.path());
    assert_eq!(state.resume(&app()).unwrap().unwrap().revision.get(), 6);
    assert_eq!(content(&state, 6), Some("f".into()));
}

#[test]
#[ignore = "the test above starts it"]
#[expect(clippy::print_stdout, reason = "the test above waits for it")]
fn what_happens_when_there_is_no_room() {
    let Ok(directory) = env::var("STATE_FULL") else { return };
    let state = open(Path::new(&directory));
    let other = SourceName::new("other");
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    let large = "x".repeat(2 << 20);
    let Saved::NotDurable(reason) = save(&state, &app(), record(2, &large)) else {
        panic!("there was room for it");
    };
    assert!(reason.contains("File too large"), "{reason}");
    let Health { failing, commits, .. } = state.health();
    assert_eq!(failing.unwrap().reason, reason);

    // Nobody waits for the disk meanwhile.
    let before = Instant::now();
    for revision in 3..=5 {
        let saved = save(&state, &app(), record(revision, &large));
        assert!(matches!(saved, Saved::NotDurable(_)), "{saved:?}");
    }
    assert!(before.elapsed() < Duration::from_millis(400), "{:?}", before.elapsed());
    assert!(matches!(save(&state, &other, record(1, "b")), Saved::NotDurable(_)));
    // What was written before can be read, unless it is just being tried again.
    match state.resume(&app()) {
        Ok(resumed) => assert_eq!(resumed.unwrap().revision.get(), 1),
        Err(error) => assert!(matches!(error, ReadError::Unavailable(_)), "{error}"),
    }

    // There is room again.
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
    let health = recovered(&state);
    assert!(health.failures >= 1 && health.commits > commits, "{health:?}");
    // Also what nobody has recorded since is on disk: the newest of it.
    assert_eq!(state.resume(&app()).unwrap().unwrap().revision.get(), 5);
    assert_eq!(state.resume(&other).unwrap().unwrap().revision.get(), 1);
    assert_eq!(content(&state, 1), Some("a".into()));
    assert_eq!(save(&state, &app(), record(6, "f")), Saved::Durable);
    state.close(DEADLINE).unwrap();
    println!("it has come to its end");
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

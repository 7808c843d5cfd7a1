//! Full disk: records are reported as not durable without delay, and written when there is space again.

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

/// File size limit of the child process, in blocks of 512 bytes.
const FILE_SIZE_LIMIT_BLOCKS: &str = "1000";
const CHILD: &str = "disk_full::child_writes_on_full_disk";

/// Runs a child process in which no file can be larger than half a megabyte.
#[test]
fn full_disk_does_not_block_publishing() {
    let directory = tempfile::tempdir().unwrap();
    let ended = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f $0; exec \"$@\"", FILE_SIZE_LIMIT_BLOCKS])
        .arg(env::current_exe().unwrap())
        .args(["--exact", CHILD, "--ignored", "--nocapture"])
        .env("STATE_FULL", directory.path())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&ended.stdout).into_owned();
    let output = output + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && output.contains("child finished"), "{output}");
    // All records are on disk afterwards.
    let state = open(directory.path());
    assert_eq!(state.restore(&app()).unwrap().unwrap().revision.get(), 6);
    assert_eq!(content(&state, 6), Some("f".into()));
}

#[test]
#[ignore = "child process of the test above"]
#[expect(clippy::print_stdout, reason = "the test above checks the output")]
fn child_writes_on_full_disk() {
    let Ok(directory) = env::var("STATE_FULL") else { return };
    let state = open(Path::new(&directory));
    let other = SourceName::new("other");
    assert_eq!(save(&state, &app(), record(1, "a")), Saved::Durable);
    let large = "x".repeat(2 << 20);
    let Saved::NotDurable(reason) = save(&state, &app(), record(2, &large)) else {
        panic!("the large record was written");
    };
    assert!(reason.contains("File too large"), "{reason}");
    let Health { failing, commits, .. } = state.health();
    assert_eq!(failing.unwrap().reason, reason);

    // Further records do not wait for the disk.
    let before = Instant::now();
    for revision in 3..=5 {
        let saved = save(&state, &app(), record(revision, &large));
        assert!(matches!(saved, Saved::NotDurable(_)), "{saved:?}");
    }
    assert!(before.elapsed() < Duration::from_millis(400), "{:?}", before.elapsed());
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
    println!("child finished");
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

//! Full disk: records are reported as not durable without delay, stored state stays readable, no revision is used
//! twice, and records are written when there is space again.

use crate::harness::{DEADLINE, app, content, open};
use reloader_engine::types::SourceName;
use std::{path::Path, process::Command};

/// File size limit of the child process, in blocks of 512 bytes: half a megabyte.
const FILE_SIZE_LIMIT_BLOCKS: u32 = 1000;

/// Runs a scenario of the program `write_on_full_disk` with a file size limit, and returns its output.
fn run_with_limit(scenario: &str, directory: &Path, limit_blocks: u32) -> String {
    let ended = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f $0; exec \"$@\"", &limit_blocks.to_string()])
        .arg(env!("CARGO_BIN_EXE_test-write-on-full-disk"))
        .arg(scenario)
        .arg(directory)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&ended.stdout).into_owned();
    let output = output + &String::from_utf8_lossy(&ended.stderr);
    assert!(output.contains("finished"), "{output}");
    output
}

#[test]
fn full_disk_does_not_block_publishing() {
    let directory = tempfile::tempdir().unwrap();
    run_with_limit("recover", directory.path(), FILE_SIZE_LIMIT_BLOCKS);
    // All records are on disk afterwards.
    let state = open(directory.path());
    assert_eq!(state.restore(&app()).unwrap().unwrap().revision.get(), 7);
    assert_eq!(content(&state, 7), Some("f".into()));
}

#[test]
fn little_space_stores_newest_value() {
    let directory = tempfile::tempdir().unwrap();
    run_with_limit("less-space", directory.path(), FILE_SIZE_LIMIT_BLOCKS);
}

/// The writer thread retries once when the store is closed, and then ends. The error of `close` names the revisions
/// that are not stored.
#[test]
fn close_on_full_disk_names_unstored_revisions() {
    let directory = tempfile::tempdir().unwrap();
    run_with_limit("close", directory.path(), FILE_SIZE_LIMIT_BLOCKS);
    // The closed store has unlocked the directory and kept the stored record. Revision 2 was published but is lost, so
    // the stored value now has revision 3.
    let state = open(directory.path());
    assert_eq!(content(&state, 1), Some("a".into()));
    assert_eq!(state.restore(&app()).unwrap().unwrap().revision.get(), 3);
}

/// Deliveries of unstored revisions are not recorded either, so that the records from before no longer count.
#[test]
fn delivery_records_end_with_kill_on_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    run_with_limit("killed", directory.path(), FILE_SIZE_LIMIT_BLOCKS);
    let state = open(directory.path());
    assert_eq!(state.last_delivery(&SourceName::new("group"), "command").unwrap(), None);
}

/// A host is killed on a full disk, starts again on the full disk, and is killed again. After each start, the revisions
/// of a source continue after its last published one, even if no record of the source was ever stored.
#[test]
fn revisions_continue_after_kills_on_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let published = |output: &str, source: &str| -> u64 {
        let last = output.lines().filter_map(|line| line.strip_prefix(source)).next_back();
        last.unwrap().trim().parse().unwrap()
    };
    let output = run_with_limit("killed", directory.path(), FILE_SIZE_LIMIT_BLOCKS);
    let mut last = (published(&output, "app"), published(&output, "other"));
    assert_eq!(last, (6, 3), "{output}");
    for _ in 0..3 {
        // With a limit of 16 KiB, redb cannot even repair the database.
        let output = run_with_limit("killed-again", directory.path(), 32);
        let now = (published(&output, "app"), published(&output, "other"));
        assert!(now.0 > last.0 && now.1 > last.1, "{now:?} after {last:?}: {output}");
        last = now;
    }
    // There is space again.
    let state = open(directory.path());
    let restored = state.restore(&app()).unwrap().unwrap();
    assert_eq!((restored.revision.get(), restored.value.is_some()), (last.0 + 1, true));
    assert_eq!(content(&state, last.0 + 1), Some("a".into()));
    assert_eq!(state.history(&app()).unwrap()[0].revision, restored.revision);
    let other = state.restore(&SourceName::new("other")).unwrap().unwrap();
    assert_eq!((other.revision.get(), other.value, other.removed), (last.1, None, false));
    // Without a further failure, a restart does not change the revisions.
    state.close(DEADLINE).unwrap();
    let state = open(directory.path());
    assert_eq!(state.restore(&app()).unwrap().unwrap().revision, restored.revision);
}

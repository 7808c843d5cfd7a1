//! Full disk: records are reported as not durable without delay, and written when there is space again.

use crate::harness::{app, content, open};
use std::{path::Path, process::Command};

/// File size limit of the child process, in blocks of 512 bytes: half a megabyte.
const FILE_SIZE_LIMIT_BLOCKS: &str = "1000";

/// Runs a scenario of the program `write_on_full_disk` with a file size limit.
fn run_on_full_disk(scenario: &str, directory: &Path) {
    let ended = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f $0; exec \"$@\"", FILE_SIZE_LIMIT_BLOCKS])
        .arg(env!("CARGO_BIN_EXE_test-write-on-full-disk"))
        .arg(scenario)
        .arg(directory)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&ended.stdout).into_owned();
    let output = output + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && output.contains("finished"), "{output}");
}

#[test]
fn full_disk_does_not_block_publishing() {
    let directory = tempfile::tempdir().unwrap();
    run_on_full_disk("recover", directory.path());
    // All records are on disk afterwards.
    let state = open(directory.path());
    assert_eq!(state.restore(&app()).unwrap().unwrap().revision.get(), 6);
    assert_eq!(content(&state, 6), Some("f".into()));
}

/// The writer thread retries once when the store is closed, and then ends.
#[test]
fn close_on_full_disk_returns_reason() {
    let directory = tempfile::tempdir().unwrap();
    run_on_full_disk("close", directory.path());
    // The closed store has unlocked the directory, and kept the record that was on disk before.
    assert_eq!(content(&open(directory.path()), 1), Some("a".into()));
}

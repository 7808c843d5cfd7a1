//! Looking for what is somebody else's.

use crate::{deed, fails, keep_at, said};
use e2e::TestHost;

#[test]
fn there_is_no_environment_and_no_input() {
    let t = TestHost::new();
    assert_eq!(said(&deed(&t, "environment", &[])), "[] [] None");
    assert_eq!(said(&deed(&t, "input", &[])), "Ok(0) []");
}

#[test]
fn a_new_instance_remembers_nothing() {
    let t = TestHost::new();
    let mut run = keep_at(&t, "remember", &[], &["--interval", "20ms", "--strategy", "polling"]);
    for _ in 0..2 {
        run.wait_for_value("seen 0");
        run.wait_for_value("seen 1");
    }
}

#[test]
fn memory_is_empty_when_it_is_given() {
    let t = TestHost::new();
    let mut run = keep_at(&t, "leftovers", &[], &["--interval", "20ms", "--strategy", "polling"]);
    run.wait_for_value("0");
    assert_eq!(said(&deed(&t, "leftovers", &[])), "0");
}

#[test]
fn what_is_one_plugins_secret_is_known_to_nobody_else() {
    let t = TestHost::new();
    assert_eq!(said(&deed(&t, "secret", &["secret=hunter2"])), "hunter2", "it is its own");
    assert_eq!(said(&deed(&t, "secret", &[])), "");
    let run = deed(&t, "tell-secret", &["secret=hunter2"]);
    fails(&run, "source `restless`: ");
    assert!(!run.stderr.contains("hunter2"), "{run:?}");
}

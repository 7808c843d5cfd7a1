//! Attacks on the isolation between instances and from the host's environment.

use crate::run_attack::{attack, fails, start_attack, value_of};
use e2e::TestHost;

#[test]
fn environment_and_stdin_are_empty() {
    let t = TestHost::new();
    assert_eq!(value_of(&attack(&t, "environment", &[])), "[] [] None");
    assert_eq!(value_of(&attack(&t, "input", &[])), "Ok(0) []");
}

#[test]
fn new_instance_has_no_state() {
    let t = TestHost::new();
    let mut run = start_attack(
        &t,
        "state-across-calls",
        &[],
        &["--interval", "20ms", "--strategy", "polling"],
    );
    for _ in 0..2 {
        run.wait_for_value("seen 0");
        run.wait_for_value("seen 1");
    }
}

#[test]
fn new_memory_is_zeroed() {
    let t = TestHost::new();
    let mut run = start_attack(
        &t,
        "uninitialized-memory",
        &[],
        &["--interval", "20ms", "--strategy", "polling"],
    );
    run.wait_for_value("0");
    assert_eq!(value_of(&attack(&t, "uninitialized-memory", &[])), "0");
}

#[test]
fn secret_is_visible_only_to_owner() {
    let t = TestHost::new();
    assert_eq!(value_of(&attack(&t, "secret", &["secret=hunter2"])), "hunter2", "own secret");
    assert_eq!(value_of(&attack(&t, "secret", &[])), "");
    let run = attack(&t, "secret-in-failure", &["secret=hunter2"]);
    fails(&run, "source `attacker`: ");
    assert!(!run.stderr.contains("hunter2"), "{run:?}");
}

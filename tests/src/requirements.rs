//! Programs and permissions that a test requires. If one is missing, the test is skipped.

use std::{env, path::PathBuf};

/// Prints that the test is skipped, and why.
///
/// # Panics
///
/// If `REQUIRE_SERVERS=1` is set.
pub fn skip(reason: &str) {
    let required = env::var_os("REQUIRE_SERVERS").is_some_and(|value| value == "1");
    assert!(!required, "{reason}, and REQUIRE_SERVERS=1");
    println!("skipped: {reason}");
}

/// Returns whether a program is installed. If it is missing, the test is [skipped](skip).
///
/// # Panics
///
/// If the program is missing and `REQUIRE_SERVERS=1` is set.
#[must_use]
pub fn have(program: &str) -> bool {
    let found = find_program(program).is_some();
    if !found {
        skip(&format!("{program} not found"));
    }
    found
}

/// Returns the path of a program in `PATH` or in a directory of system programs.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

//! Waiting for an observable condition.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Timeout of each wait in a test. It is only reached on failure.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval between two checks of the condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until the condition is true. `what` names the condition in the panic message.
///
/// # Panics
///
/// If the condition is not true within [`WAIT_TIMEOUT`].
pub fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    wait_until_or(|| what.to_owned(), is_so);
}

/// Like [`wait_until`], with a description that is only computed when the wait fails.
///
/// # Panics
///
/// If the condition is not true within [`WAIT_TIMEOUT`].
pub fn wait_until_or(describe: impl Fn() -> String, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < WAIT_TIMEOUT, "timeout waiting for: {}", describe());
        thread::sleep(POLL_INTERVAL);
    }
}

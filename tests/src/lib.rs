//! Harness for the end-to-end tests: runs the host in a temporary directory, beside real servers.
//!
//! Each wait polls an observable condition and fails after [`WAIT_TIMEOUT`]. No test sleeps for a fixed
//! time to reach a state.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]
#![allow(clippy::print_stdout, reason = "skipped tests are reported on stdout")]

mod certificates;
mod component;
mod guest;
pub mod hostile;
mod http;
mod process;
mod redis;

pub use certificates::{Authority, Identity};
pub use component::{component, text_guest, with_component, with_section};
pub use guest::{build, guest, limits_check};
pub use http::Nginx;
pub use process::{Finished, Running, TestHost, program, status};
pub use redis::Redis;

use std::{
    env,
    net::TcpListener,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// Timeout of each wait in a test.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until the condition is true. `what` names it in the panic message.
///
/// # Panics
///
/// If the condition is not true within [`WAIT_TIMEOUT`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < WAIT_TIMEOUT, "timeout waiting for: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns whether a program is installed. If it is missing, prints that the test is skipped.
///
/// # Panics
///
/// If the program is missing and `REQUIRE_SERVERS=1` is set.
#[must_use]
pub fn have(program: &str) -> bool {
    let found = find(program).is_some();
    if !found {
        let required = env::var_os("REQUIRE_SERVERS").is_some_and(|value| value == "1");
        assert!(!required, "{program} not found, and REQUIRE_SERVERS=1");
        println!("skipped: {program} not found");
    }
    found
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Returns the directory of the package `e2e`. It is read at run time, because checkouts in
/// different directories may share one target directory.
///
/// # Panics
///
/// If cargo did not start this process.
#[must_use]
pub fn package() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

/// Returns a port that is currently free.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

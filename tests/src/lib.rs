//! What end-to-end tests are made of: a host in a directory of its own, and real servers.
//!
//! Everything that is waited for is something observable, with a time limit that is only reached when
//! something is wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

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

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
///
/// # Panics
///
/// When it does not become so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a server's program is here. Where it is not, the test says that it is skipped; with
/// `REQUIRE_SERVERS=1` it fails.
///
/// # Panics
///
/// When it is not here and must be.
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

/// The folder of the package `e2e`. Asked for when it runs: a target directory may be shared by checkouts
/// in several places.
///
/// # Panics
///
/// When it is not run by cargo.
#[must_use]
pub fn package() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

//! Harness for the end-to-end tests: runs the host in a temporary directory, with real and with hostile servers.
//!
//! Each wait polls an observable condition and fails after [`WAIT_TIMEOUT`]. No test sleeps for a fixed
//! time to reach a state.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]
#![allow(clippy::print_stdout, reason = "skipped tests are reported on stdout")]

mod cases;
mod certificates;
#[cfg(doctest)]
mod embedding_guide_doctests;
mod free_port;
mod fuse_server;
mod host_process;
pub mod hostile;
mod hung_mount;
mod nginx;
mod paths;
mod redis;
mod requirements;
mod rust_guest;
mod text_guest;
mod wait;

pub use certificates::{Authority, Identity};
pub use host_process::{Finished, Running, TestHost, process_status};
pub use hung_mount::HungMount;
pub use nginx::Nginx;
pub use paths::{package, plugin_cache, program};
pub use redis::Redis;
pub use requirements::{have, skip};
pub use rust_guest::{build_guest, guest, number_range};
pub use text_guest::{component, text_guest, with_component, with_section};
pub use wait::{WAIT_TIMEOUT, wait_until, wait_until_or};

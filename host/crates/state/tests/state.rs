//! State store with real files: stored and deleted state, access control, killed hosts, full disks, damaged and removed
//! files.
#![allow(clippy::unwrap_used, reason = "a failed setup step fails the test")]

#[path = "state/access.rs"]
mod access;
#[path = "state/damage.rs"]
mod damage;
#[path = "state/disk_full.rs"]
mod disk_full;
#[path = "state/format_fixtures.rs"]
mod format_fixtures;
#[path = "state/harness.rs"]
mod harness;
#[path = "state/history.rs"]
mod history;
#[path = "state/killed.rs"]
mod killed;
#[path = "state/removed_files.rs"]
mod removed_files;
#[path = "state/removed_sources.rs"]
mod removed_sources;
#[path = "state/restart.rs"]
mod restart;
#[path = "state/secret_values.rs"]
mod secret_values;
#[path = "state/test_record_generator.rs"]
mod test_record_generator;
#[path = "state/write_queue.rs"]
mod write_queue;

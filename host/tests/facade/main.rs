//! The crate `reloader-host` as a program uses it: `FileReloader`, the plugin `file`, validation of values, and the
//! example `server`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[cfg(feature = "file-reloader")]
mod dependent_files_during_load;
#[cfg(feature = "file-reloader")]
mod dependent_files_late_or_behind_links;
#[cfg(feature = "bundled")]
mod example_server;
#[cfg(feature = "file-reloader")]
mod file_reloader_panics;
#[cfg(all(feature = "file-reloader", target_os = "linux"))]
mod file_scenarios;
#[cfg(all(feature = "delivery", unix))]
mod schema_and_command_validators;

//! Tests of workers, sinks and child processes, with real files, processes and HTTP servers.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod blocked_operations;
mod command_runs;
mod content_checks;
mod exec_and_signal;
mod files;
mod harness;
mod killed_writer;
mod notifiers_run_if_files_changed;
mod pid1;
mod repair;
mod several_sources_and_bursts;
mod sink_settings;
mod supervised_program;
mod templates;
mod webhooks;
mod workers;

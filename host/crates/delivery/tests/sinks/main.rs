//! Tests of workers and sinks, with real files, processes and HTTP servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod bursts;
mod commands;
mod files;
mod harness;
mod killed;
mod settings;
mod templates;
mod webhooks;
mod workers;

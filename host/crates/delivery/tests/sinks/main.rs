//! Where values go: workers, files, commands, signals, requests and templates, all of them real.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod bursts;
mod commands;
mod files;
mod killed;
mod settings;
mod site;
mod templates;
mod webhooks;
mod workers;

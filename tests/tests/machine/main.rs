//! `host run --config`: a whole machine's configuration, from its sources to its files and commands.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod configuration;
mod crash;
mod delivery;
mod reload;
mod service;
mod state;
mod validation;

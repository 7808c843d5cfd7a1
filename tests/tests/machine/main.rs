//! `host run --config`: sources, sinks, groups and the command of one configuration file.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod configuration;
mod crash;
mod delivery;
mod reload;
mod service;
mod state;
mod validation;

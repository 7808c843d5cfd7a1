//! `host run --config`: sources, sinks, groups and the command of one configuration file.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod config_reload;
mod config_text;
mod config_validation;
mod crash_recovery;
mod delivery;
mod hung_config_and_shutdown;
mod persistent_state;
mod sd_notify;
mod value_validation;

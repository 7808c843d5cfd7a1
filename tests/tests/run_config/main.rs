//! `host run --config`: sources, sinks, groups and the command of one configuration file.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod children_of_killed_host;
mod config_reload;
mod config_text;
mod config_validation;
mod core_dumps;
mod crash_recovery;
mod delivery;
mod hostile_webhook_receivers;
mod hung_config_and_shutdown;
mod hung_secret_file;
mod persistent_state;
mod sd_notify;
mod value_validation;

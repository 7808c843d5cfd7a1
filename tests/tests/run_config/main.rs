//! `host run --config`: sources, sinks, groups and the command of one configuration file.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod address_space;
mod children_of_killed_host;
mod config_reload;
mod config_text_helpers;
mod config_validation;
mod content_checks_before_replacement;
mod core_dumps;
mod crash_recovery;
mod delivery;
mod exec_programs_on_hung_file_system;
mod file_repair_and_sink_log;
mod hostile_webhook_receivers;
mod hung_file_systems_and_shutdown;
mod hung_plugin_file;
mod hung_restart_and_notification_log;
mod hung_secret_file;
mod hung_sinks;
mod hung_socket_directory;
mod hung_state_directory;
mod notifiers_of_rendered_files;
mod one_time_delivery;
mod persistent_state;
mod process_limits;
mod render_command;
mod sd_notify;
mod state_disk_failures;
mod value_validation;

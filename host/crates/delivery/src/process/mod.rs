//! Child processes: short-lived commands ([`CommandSettings`]), the supervised program that uses the
//! values ([`Supervisor`]), and process 1 of a container ([`pid1`]).
//!
//! Each command leads a process group of its own, and a timeout stops the whole group. The supervised program also
//! leads a group of its own, and a stop of the program stops the whole group. The exception is a terminal as standard
//! input: then the program stays in the process group of the host.

pub(crate) mod command_line;
mod command_preflight;
pub(crate) mod command_run;
pub(crate) mod command_settings;
pub(crate) mod output_log;
pub mod pid1;
mod private_tempdir;
mod process_group;
pub(crate) mod signal_name;
mod start_file_access;
mod supervisor;
mod supervisor_log;

pub use command_line::CommandLine;
pub use command_run::{CommandError, CommandInput};
pub use command_settings::CommandSettings;
pub use output_log::OutputLimit;
pub use process_group::kill_running_groups;
pub use signal_name::{Signal, SignalError};
pub use supervisor::{Exit, OnChange, RestartPolicy, Supervisor, SupervisorSettings};

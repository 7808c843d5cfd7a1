//! Child processes: short-lived commands ([`CommandSettings`]), the supervised program that uses the
//! values ([`Supervisor`]), and process 1 of a container ([`pid1`]).
//!
//! Each child process leads a process group of its own. A timeout or a stop kills the whole group.

pub(crate) mod command_line;
mod command_preflight;
pub(crate) mod command_run;
pub(crate) mod command_settings;
mod output_log;
pub mod pid1;
mod private_tempdir;
mod process_group;
pub(crate) mod signal_name;
mod supervisor;

pub use command_line::CommandLine;
pub use command_run::{CommandError, CommandInput};
pub use command_settings::CommandSettings;
pub use signal_name::{Signal, SignalError};
pub use supervisor::{Exit, OnChange, RestartPolicy, Supervisor, SupervisorSettings};

//! Child processes: short-lived commands ([`CommandSettings`]), the supervised program that uses the
//! values ([`Supervisor`]), and process 1 of a container ([`pid1`]).
//!
//! Each child process leads a process group of its own. A timeout or a stop kills the whole group.

mod command;
mod group;
mod output;
pub mod pid1;
mod private_tempdir;
mod run;
mod signal;
mod supervisor;

pub use command::{CommandLine, CommandSettings};
pub use run::{CommandError, CommandInput};
pub use signal::{Signal, SignalError};
pub use supervisor::{Exit, OnChange, Restart, Supervisor, SupervisorSettings};

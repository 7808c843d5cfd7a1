//! Programs that the host runs: for a moment, with a value ([`CommandSettings`]), or for as long as it
//! lives itself ([`Supervisor`]). Neither outlives its deadline, nor leaves processes behind that it
//! started.

mod command;
mod group;
mod output;
pub mod pid1;
mod private_tempdir;
mod run;
mod signal;
mod supervisor;

pub use command::{CommandLine, CommandSettings};
pub use run::{CommandError, Given};
pub use signal::{Signal, SignalError};
pub use supervisor::{Exit, OnChange, Restart, Supervisor, SupervisorSettings};

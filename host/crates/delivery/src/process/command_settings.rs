//! Settings of a short-lived command.

use super::{command_line::CommandLine, signal_name::Signal};
use reloader_util::units::Time;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Settings of a short-lived command that receives a value.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandSettings {
    /// Program and arguments, or a string for the shell. If the value is passed as a file, the path of this
    /// file replaces `{file}` in the words of a program.
    pub command: CommandLine,
    /// Timeout of the command. After it, the process group of the command is stopped.
    pub timeout: Time,
    /// Signal that stops the command after its timeout.
    pub kill_signal: Signal,
    /// Grace period between `kill_signal` and `SIGKILL`.
    pub kill_after: Time,
    /// Working directory; `None` is the working directory of the host.
    pub directory: Option<PathBuf>,
    /// Environment variables, in addition to those of the host.
    pub env: BTreeMap<String, String>,
}

/// Default of [`CommandSettings::timeout`].
const DEFAULT_TIMEOUT: Time = Time(Duration::from_secs(30));

/// Returns the default of [`CommandSettings::kill_signal`].
pub(crate) fn default_kill_signal() -> Signal {
    Signal::TERM
}

/// Returns the default of [`CommandSettings::kill_after`].
pub(crate) fn default_kill_after() -> Time {
    Time(Duration::from_secs(5))
}

impl CommandSettings {
    /// Returns settings for `command` with a timeout of 30 seconds, `SIGTERM` and a grace period of
    /// 5 seconds.
    #[must_use]
    pub fn new(command: CommandLine) -> Self {
        Self {
            command,
            timeout: DEFAULT_TIMEOUT,
            kill_signal: default_kill_signal(),
            kill_after: default_kill_after(),
            directory: None,
            env: BTreeMap::new(),
        }
    }
}

//! Log events of the supervisor. Events that each change of a value may cause are rate limited.

use super::{command_line::CommandLine, signal_name::Signal};
use reloader_util::log_limit::LogLimit;
use std::{
    io,
    time::{Duration, Instant},
};
use tracing::{debug, info, warn};

/// Interval at which the rate limit allows one further event after a burst.
const RATE_LIMIT_INTERVAL: Duration = Duration::from_secs(10);

/// Log of one supervised program. Events above the rate limit are logged at DEBUG.
#[derive(Debug)]
pub(super) struct SupervisorLog {
    rate_limit: LogLimit,
}

impl SupervisorLog {
    pub(super) fn new() -> Self {
        Self { rate_limit: LogLimit::new(RATE_LIMIT_INTERVAL, Instant::now()) }
    }

    pub(super) fn started(&mut self, command: &CommandLine) {
        match self.allow() {
            Some(suppressed) => info!(%command, suppressed, "command started"),
            None => debug!(%command, "command started"),
        }
    }

    pub(super) fn signalled(&mut self, signal: Signal) {
        match self.allow() {
            Some(suppressed) => info!(%signal, suppressed, "sent signal to the command"),
            None => debug!(%signal, "sent signal to the command"),
        }
    }

    pub(super) fn killed_by_notification(&mut self, signal: Signal) {
        match self.allow() {
            Some(suppressed) => info!(
                %signal,
                suppressed,
                "command killed by the change notification signal, no handler installed yet, restarting"
            ),
            None => debug!(
                %signal,
                "command killed by the change notification signal, no handler installed yet, restarting"
            ),
        }
    }

    pub(super) fn restarting(&mut self) {
        match self.allow() {
            Some(suppressed) => info!(suppressed, "restarting the command after a value change"),
            None => debug!("restarting the command after a value change"),
        }
    }

    /// Logs that a restart is postponed because the files of the program cannot be accessed. `is_first` is false if
    /// the same restart has been postponed before.
    pub(super) fn restart_postponed(
        command: &CommandLine,
        error: &io::Error,
        retry_in: Duration,
        is_first: bool,
    ) {
        if is_first {
            warn!(%command, %error, ?retry_in, "restart of the command postponed");
        } else {
            debug!(%command, %error, ?retry_in, "restart of the command postponed");
        }
    }

    /// Returns `None` if an event is suppressed, and otherwise the number of events suppressed before it, unless that
    /// is 0.
    fn allow(&mut self) -> Option<Option<u64>> {
        let suppressed = self.rate_limit.allow(Instant::now())?;
        Some((suppressed > 0).then_some(suppressed))
    }
}

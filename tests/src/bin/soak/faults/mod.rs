//! Faults that the soak test injects.

mod clients;
mod config_reload;
mod full_state_disk_and_damaged_sinks;
mod processes;
mod servers;

use crate::{environment::Environment, random::Rng, value_server::Behaviour};
use full_state_disk_and_damaged_sinks::{damage_sinks, fill_state_disk, kill_on_full_state_disk};
use std::time::Duration;

/// Timeout for the delivery of a change of a source that the present fault does not affect.
const UNAFFECTED_TIMEOUT: Duration = Duration::from_secs(10);

/// Fault that the soak test injects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGTERM of the host, and a new process.
    Restart,
    /// SIGKILL of the host, and a new process.
    Kill,
    /// SIGSTOP and SIGCONT of the host.
    StoppedHost,
    /// SIGSTOP and SIGCONT of the Redis server.
    StoppedRedis,
    /// SIGKILL of the Redis server, which loses its data, and a new server.
    RestartedRedis,
    /// HTTP server that accepts connections and does not answer.
    StalledServer,
    /// HTTP server that answers with status 503.
    FailingServer,
    /// HTTP server that closes connections.
    ClosingServer,
    AddedSource,
    RemovedSource,
    /// Source that reads another file after a reload.
    ChangedSource,
    /// Invalid configuration file, and its correction.
    InvalidConfiguration,
    /// SIGHUP without a change.
    Hangup,
    ReplacedPlugin,
    /// Sources on a file system that never answers.
    HungMount,
    /// Clients that open the event stream and read nothing.
    SlowReaders,
    /// Clients that query `/metrics` and `/v1/sources` without a pause.
    ManyReaders,
    FullStateDisk,
    /// Full disk under the state store. The host is killed and restarted before or after the disk has free space again.
    KillOnFullStateDisk,
    /// Files of sinks that another program overwrites, removes, or replaces by directories.
    DamagedSinks,
}

impl Fault {
    const ALL: [Self; 20] = [
        Self::Restart,
        Self::Kill,
        Self::StoppedHost,
        Self::StoppedRedis,
        Self::RestartedRedis,
        Self::StalledServer,
        Self::FailingServer,
        Self::ClosingServer,
        Self::AddedSource,
        Self::RemovedSource,
        Self::ChangedSource,
        Self::InvalidConfiguration,
        Self::Hangup,
        Self::ReplacedPlugin,
        Self::HungMount,
        Self::SlowReaders,
        Self::ManyReaders,
        Self::FullStateDisk,
        Self::KillOnFullStateDisk,
        Self::DamagedSinks,
    ];

    /// Returns the faults that are possible in this environment.
    pub(crate) fn possible(environment: &Environment) -> Vec<Self> {
        let possible = |fault: &Self| match fault {
            Self::StoppedRedis | Self::RestartedRedis => environment.redis.is_some(),
            // These faults require permission to mount. The state disk exists only with this permission.
            Self::HungMount | Self::FullStateDisk | Self::KillOnFullStateDisk => {
                environment.state_disk.is_some()
            }
            _ => true,
        };
        Self::ALL.into_iter().filter(possible).collect()
    }

    /// Returns whether the fault ends the process of the host.
    pub(crate) fn ends_process(self) -> bool {
        matches!(self, Self::Restart | Self::Kill | Self::KillOnFullStateDisk)
    }

    /// Injects the fault for the duration `hold`, and ends it.
    ///
    /// # Errors
    ///
    /// If the host does not react to the fault as expected, or does not deliver an unaffected source in time.
    pub(crate) fn inject(
        self,
        environment: &Environment,
        rng: &mut Rng,
        hold: Duration,
    ) -> Result<(), String> {
        match self {
            Self::Restart => processes::restart(environment),
            Self::Kill => processes::kill(environment),
            Self::StoppedHost => processes::stop_and_continue(environment, hold),
            Self::StoppedRedis => servers::stop_and_continue_redis(environment, hold),
            Self::RestartedRedis => servers::restart_redis(environment),
            Self::StalledServer => servers::misbehave(environment, Behaviour::Stall, hold),
            Self::FailingServer => servers::misbehave(environment, Behaviour::Error, hold),
            Self::ClosingServer => servers::misbehave(environment, Behaviour::Close, hold),
            Self::AddedSource => config_reload::add_source(environment),
            Self::RemovedSource => config_reload::remove_source(environment),
            Self::ChangedSource => config_reload::change_source(environment, rng),
            Self::InvalidConfiguration => config_reload::invalidate(environment, hold),
            Self::Hangup => config_reload::hang_up(environment),
            Self::ReplacedPlugin => config_reload::replace_plugin(environment),
            Self::HungMount => config_reload::hang_mount(environment, rng, hold),
            Self::SlowReaders => clients::slow_readers(environment, hold),
            Self::ManyReaders => clients::many_readers(environment, hold),
            Self::FullStateDisk => fill_state_disk(environment, hold),
            Self::KillOnFullStateDisk => kill_on_full_state_disk(environment, rng, hold),
            Self::DamagedSinks => damage_sinks(environment, rng, hold),
        }
    }
}

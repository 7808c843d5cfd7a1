//! Supervisor of the program that uses the values: starts it, notifies it of changes, restarts it.

use super::{
    command_line::CommandLine, command_settings::default_kill_signal, process_group::ProcessGroup,
    signal_name::Signal, start_file_access::access_files, supervisor_log::SupervisorLog,
};
use reloader_util::{backoff, child_process::Pipes, units::Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    future::pending,
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    pin::{Pin, pin},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};
use tokio::{
    process::Command,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

/// Settings of the program that uses the values.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SupervisorSettings {
    /// Program and arguments as a list, run without a shell; or a string, run by `/bin/sh -c`. The
    /// program inherits standard input and output of the host.
    pub command: CommandLine,
    /// Action when a value has changed: `signal`, `restart`, or `none`. Default: `signal`.
    #[serde(default)]
    pub on_change: OnChange,
    /// Signal that notifies the program of a change. Default: `SIGHUP`.
    #[serde(default = "signal")]
    pub signal: Signal,
    /// Debounce: changes within this time after a first change lead to one signal or restart. Default: `100ms`.
    #[serde(default = "settle")]
    pub settle: Time,
    /// Random delay before the program is signalled or restarted, at most this long. It spreads the
    /// restarts of a fleet of hosts. Default: no delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splay: Option<Time>,
    /// When to restart the program after it has exited: `never`, `on-failure`, or `always`. Without a
    /// restart, the host exits with the same status. Default: `never`.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Maximum number of consecutive restarts of a program that runs for less than 10 seconds, with
    /// exponential backoff from 1 to 60 seconds. Default: 10.
    #[serde(default = "restarts")]
    pub restarts: u32,
    /// Signal that stops the program. Default: `SIGTERM`.
    #[serde(default = "default_kill_signal")]
    pub kill_signal: Signal,
    /// Grace period between `kill-signal` and `SIGKILL`. Default: `30s`.
    #[serde(default = "kill_after")]
    pub kill_after: Time,
    /// Working directory. Default: the working directory of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Environment variables, in addition to those of the host. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Action when a value has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    /// Send a signal to the program.
    #[default]
    Signal,
    /// Restart the program.
    Restart,
    /// No action; the program detects changes itself.
    None,
}

/// Restart policy for a program that has exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// No restart; the host exits with the status of the program.
    #[default]
    Never,
    /// Restart unless the status is 0.
    OnFailure,
    /// Restart after every exit.
    Always,
}

fn signal() -> Signal {
    Signal::HUP
}

fn settle() -> Time {
    Time(Duration::from_millis(100))
}

fn restarts() -> u32 {
    10
}

fn kill_after() -> Time {
    Time(Duration::from_secs(30))
}

/// Run time after which a program counts as stable: the counter of consecutive exits starts again, and the program
/// is expected to have installed its signal handlers.
const STABLE_RUN_TIME: Duration = Duration::from_secs(10);
/// Backoff before the first restart.
const MIN_RESTART_BACKOFF: Duration = Duration::from_secs(1);
/// Maximum backoff before a restart. Also limits the delay of a restart that is postponed because the file system of
/// the program does not answer.
const MAX_RESTART_BACKOFF: Duration = Duration::from_secs(60);
/// Signal that the kernel sends to the program when the host dies. `SIGKILL` ends the program at once: the restarted
/// host starts it again immediately, and two instances must not run at the same time.
const DEATH_SIGNAL: Signal = Signal::KILL;
/// Capacity of the queue of requests to the supervisor task.
const REQUEST_QUEUE_CAPACITY: usize = 16;
/// Exit status for a program that exists but cannot be started, as in shells.
const STATUS_NOT_EXECUTABLE: u8 = 126;
/// Exit status for a program that does not exist, as in shells.
const STATUS_NOT_FOUND: u8 = 127;

impl SupervisorSettings {
    /// Returns the default settings for `command`.
    #[must_use]
    pub fn new(command: CommandLine) -> Self {
        Self {
            command,
            on_change: OnChange::default(),
            signal: signal(),
            settle: settle(),
            splay: None,
            restart: RestartPolicy::default(),
            restarts: restarts(),
            kill_signal: default_kill_signal(),
            kill_after: kill_after(),
            directory: None,
            env: BTreeMap::new(),
        }
    }

    fn to_command(&self) -> Command {
        let mut command = self.command.to_command(str::to_owned);
        command.envs(&self.env);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    async fn spawn(&self) -> io::Result<ProcessGroup> {
        let command = self.to_command();
        // Outside of the foreground process group, the program could not read the terminal, and would get no
        // SIGINT on Ctrl-C.
        if io::stdin().is_terminal() {
            ProcessGroup::spawn_in_host_group(command, DEATH_SIGNAL).await
        } else {
            ProcessGroup::spawn(command, Pipes::default(), DEATH_SIGNAL).await
        }
    }

    /// Returns whether the restart policy applies to this exit.
    fn should_restart(&self, exit: Exit) -> bool {
        match self.restart {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => exit.code != 0,
            RestartPolicy::Always => true,
        }
    }
}

/// Exit of the program: its status, or 128 plus the number of the signal that ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Status with which the host exits after this exit of the program.
    pub code: u8,
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        let signal = status.signal().map(|signal| 128 + signal);
        let code = status.code().or(signal).and_then(|code| u8::try_from(code).ok());
        Self { code: code.unwrap_or(u8::MAX) }
    }
}

impl Exit {
    fn killed_by(signal: Signal) -> Self {
        Self { code: u8::try_from(128 + signal.number()).unwrap_or(u8::MAX) }
    }

    fn not_started(error: &io::Error) -> Self {
        let missing = error.kind() == io::ErrorKind::NotFound;
        Self { code: if missing { STATUS_NOT_FOUND } else { STATUS_NOT_EXECUTABLE } }
    }
}

/// Handle of a supervised program. Dropping it kills the process group of the program.
#[derive(Debug)]
pub struct Supervisor {
    changed: Arc<Notify>,
    requests: mpsc::Sender<Request>,
    task: JoinHandle<Exit>,
    exit: Option<Exit>,
}

/// Request to the supervisor task: forward a signal to the program, or stop it.
#[derive(Debug, Clone, Copy)]
enum Request {
    Forward(Signal),
    Stop,
}

impl Supervisor {
    /// Starts the program and its supervisor on the current tokio runtime.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    #[must_use]
    pub fn start(settings: SupervisorSettings) -> Self {
        let changed = Arc::new(Notify::new());
        let (requests, received) = mpsc::channel(REQUEST_QUEUE_CAPACITY);
        let task = SupervisorTask {
            settings,
            changed: Arc::clone(&changed),
            requests: received,
            crashes: 0,
            log: SupervisorLog::new(),
        };
        Self { changed, requests, task: tokio::spawn(task.run()), exit: None }
    }

    /// Reports a changed value. The program is signalled or restarted once for all changes within the
    /// debounce time.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// Forwards a signal to the program.
    ///
    /// If standard input is a terminal, `SIGINT`, `SIGQUIT` and `SIGWINCH` are not forwarded, because the
    /// terminal sends them to the program as well.
    pub fn forward(&self, signal: Signal) {
        if !(signal.is_sent_by_terminal() && io::stdin().is_terminal()) {
            // If the queue is full, the signal is dropped: the task has not forwarded earlier signals yet.
            let _ = self.requests.try_send(Request::Forward(signal));
        }
    }

    /// Waits until the program has exited and is not restarted. Returns its last exit.
    pub async fn ended(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let exit = (&mut self.task).await.unwrap_or(Exit { code: u8::MAX });
        *self.exit.insert(exit)
    }

    /// Stops the program, kills its process group after the grace period, and returns its exit. The exit of a program
    /// that ends through the stop signal is 0.
    pub async fn stop(mut self) -> Exit {
        let _ = self.requests.send(Request::Stop).await;
        self.ended().await
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Task that starts, notifies and restarts the program.
struct SupervisorTask {
    settings: SupervisorSettings,
    changed: Arc<Notify>,
    requests: mpsc::Receiver<Request>,
    /// Number of consecutive runs that ended within [`STABLE_RUN_TIME`]. The exit after a longer run sets the count to
    /// 1, and a restart because of a changed value sets it to 0.
    crashes: u32,
    log: SupervisorLog,
}

/// Check before a restart because of a changed value: accesses the files that the start needs. While their file system
/// does not answer, the old process keeps running.
type RestartCheck = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Reason why one run of the program has ended.
enum RunEnd {
    /// The program exited by itself.
    Exited(Exit),
    /// The program ended because of a changed value, and should be started again at once.
    Restart,
    /// The program was stopped on request.
    Stopped(Exit),
}

impl SupervisorTask {
    /// Runs the program until it ends without a restart. Returns the last exit.
    async fn run(mut self) -> Exit {
        loop {
            let started = Instant::now();
            // A new process reads the current values, so it needs no notification of earlier changes.
            self.discard_notification();
            let end = match self.start().await {
                None => RunEnd::Stopped(Exit { code: 0 }),
                Some(Ok(group)) => {
                    self.log.started(&self.settings.command);
                    self.supervise(group).await
                }
                Some(Err(error)) => {
                    warn!(command = %self.settings.command, %error, "command failed to start");
                    RunEnd::Exited(Exit::not_started(&error))
                }
            };
            match end {
                RunEnd::Stopped(exit) => return exit,
                RunEnd::Restart => self.crashes = 0,
                RunEnd::Exited(exit) => {
                    let status = exit.code;
                    let is_crash = started.elapsed() < STABLE_RUN_TIME;
                    self.crashes = if is_crash { self.crashes + 1 } else { 1 };
                    let has_restarts = self.crashes <= self.settings.restarts;
                    if !self.settings.should_restart(exit) || !has_restarts {
                        info!(status, "command exited");
                        return exit;
                    }
                    let restart_in = backoff::exponential(
                        MIN_RESTART_BACKOFF,
                        MAX_RESTART_BACKOFF,
                        self.crashes - 1,
                    );
                    warn!(status, ?restart_in, "command exited, restarting");
                    if !self.wait_for_restart(restart_in).await {
                        return exit;
                    }
                }
            }
        }
    }

    /// Starts the program, and sends it the signals that were forwarded during the start. Returns `None` if a stop is
    /// requested during the start. The start hangs if the file system of the program does not answer.
    async fn start(&mut self) -> Option<io::Result<ProcessGroup>> {
        let mut starting = pin!(self.settings.spawn());
        let mut signals = Vec::new();
        loop {
            tokio::select! {
                biased;
                started = &mut starting => {
                    if let Ok(group) = &started {
                        signals.into_iter().for_each(|signal| group.signal(signal));
                    }
                    return Some(started);
                }
                request = self.requests.recv() => match request {
                    Some(Request::Forward(signal)) if signals.contains(&signal) => {}
                    Some(Request::Forward(signal)) => signals.push(signal),
                    Some(Request::Stop) | None => return None,
                },
            }
        }
    }

    /// Waits for the backoff before a restart. Returns `false` if the program must not be restarted: the supervisor is
    /// stopped, or a termination signal is forwarded.
    async fn wait_for_restart(&mut self, backoff: Duration) -> bool {
        let end = Instant::now() + backoff;
        loop {
            tokio::select! {
                () = sleep_until(end) => return true,
                // A changed value may fix the crash, so the change ends the backoff.
                () = self.changed.notified() => return true,
                request = self.requests.recv() => match request {
                    Some(Request::Forward(signal)) if is_termination(signal) => return false,
                    Some(Request::Forward(_)) => {}
                    Some(Request::Stop) | None => return false,
                },
            }
        }
    }

    /// Notifies the running program of changes and forwards signals, until the program ends.
    async fn supervise(&mut self, mut group: ProcessGroup) -> RunEnd {
        // Time of the next change notification, if a change is pending.
        let mut notify_at: Option<Instant> = None;
        let mut was_signalled = false;
        let mut restart_check: Option<RestartCheck> = None;
        let mut failed_checks = 0;
        let started = Instant::now();
        let exit =
            |status: io::Result<ExitStatus>| status.map_or(Exit { code: u8::MAX }, Exit::from);
        loop {
            let due = notify_at.unwrap_or_else(Instant::now);
            tokio::select! {
                status = group.wait() => {
                    let exit = exit(status);
                    // Dropping the process group kills the processes that the program has left running.
                    drop(group);
                    let by_signal = i32::from(exit.code) == 128 + self.settings.signal.number();
                    if was_signalled && by_signal && started.elapsed() < STABLE_RUN_TIME {
                        self.log.killed_by_notification(self.settings.signal);
                        return RunEnd::Restart;
                    }
                    return RunEnd::Exited(exit);
                }
                () = self.changed.notified(), if notify_at.is_none() && restart_check.is_none() => {
                    notify_at = Some(Instant::now() + self.settings.settle.0 + self.splay());
                }
                () = sleep_until(due), if notify_at.is_some() => {
                    notify_at = None;
                    // The signal or restart that follows covers all changes up to now.
                    self.discard_notification();
                    match self.settings.on_change {
                        OnChange::None => {}
                        OnChange::Signal => {
                            self.log.signalled(self.settings.signal);
                            group.signal(self.settings.signal);
                            was_signalled = true;
                        }
                        OnChange::Restart => {
                            let command = self.settings.to_command();
                            restart_check =
                                Some(Box::pin(async move { access_files(&command).await }));
                        }
                    }
                }
                checked = check_result(&mut restart_check) => {
                    restart_check = None;
                    let Err(error) = checked else {
                        self.log.restarting();
                        return match self.stop(group).await {
                            (_, false) => RunEnd::Restart,
                            (status, true) => RunEnd::Stopped(self.stopped(exit(status))),
                        };
                    };
                    let retry_in = backoff::exponential_with_jitter(
                        MIN_RESTART_BACKOFF,
                        MAX_RESTART_BACKOFF,
                        failed_checks,
                    );
                    let (command, is_first) = (&self.settings.command, failed_checks == 0);
                    SupervisorLog::restart_postponed(command, &error, retry_in, is_first);
                    failed_checks = failed_checks.saturating_add(1);
                    notify_at = Some(Instant::now() + retry_in);
                }
                request = self.requests.recv() => match request {
                    Some(Request::Forward(signal)) => group.signal(signal),
                    Some(Request::Stop) | None => {
                        let status = self.stop(group).await.0;
                        return RunEnd::Stopped(self.stopped(exit(status)));
                    }
                }
            }
        }
    }

    /// Returns the exit of a program that was stopped on request. An end through the stop signal is a success, so that a
    /// service manager does not count the stop as a failure.
    fn stopped(&self, exit: Exit) -> Exit {
        if exit == Exit::killed_by(self.settings.kill_signal) { Exit { code: 0 } } else { exit }
    }

    /// Stops the program. Returns its status, and whether a stop of the supervisor was requested
    /// meanwhile.
    async fn stop(&mut self, group: ProcessGroup) -> (io::Result<ExitStatus>, bool) {
        let (signal, grace_period) = (self.settings.kill_signal, self.settings.kill_after.0);
        let mut stopping = pin!(group.stop(signal, grace_period));
        let mut stop_requested = false;
        loop {
            tokio::select! {
                status = &mut stopping => return (status, stop_requested),
                request = self.requests.recv(), if !stop_requested => match request {
                    // Ignored, because the program is already being stopped.
                    Some(Request::Forward(_)) => {}
                    Some(Request::Stop) | None => stop_requested = true,
                }
            }
        }
    }

    /// Discards the notification of an earlier change, if there is one.
    fn discard_notification(&self) {
        pin!(self.changed.notified()).enable();
    }

    /// Returns a random delay of at most `splay`, so that a fleet of hosts does not restart its programs at once.
    fn splay(&self) -> Duration {
        self.settings
            .splay
            .map_or(Duration::ZERO, |splay| splay.0.mul_f64(backoff::random_fraction()))
    }
}

/// Waits for the result of the running restart check, or forever if none is running.
async fn check_result(check: &mut Option<RestartCheck>) -> io::Result<()> {
    match check {
        Some(check) => check.await,
        None => pending().await,
    }
}

/// Returns whether a signal requests the termination of a program.
fn is_termination(signal: Signal) -> bool {
    [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal)
}

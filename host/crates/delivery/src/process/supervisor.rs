//! The program that uses the values: started, told of changes, and looked after until it ends.

use super::{CommandLine, Signal, command::kill_signal, group::Group};
use reloader_util::{backoff, units::Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

/// The program that uses the values.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SupervisorSettings {
    /// The program and its arguments as a list, run without a shell; or a text, run by `/bin/sh -c`.
    /// Input and output are those of the host.
    pub command: CommandLine,
    /// What is done when a value has changed: `signal`, `restart`, or `none`. Default: `signal`.
    #[serde(default)]
    pub on_change: OnChange,
    /// What it is sent when a value has changed. Default: `SIGHUP`.
    #[serde(default = "signal")]
    pub signal: Signal,
    /// Changes that come within this time after one are told together with it. Default: `100ms`.
    #[serde(default = "settle")]
    pub settle: Time,
    /// Up to this long, by chance, it is waited before the program is signalled or restarted, so that many
    /// machines do not do so at once. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splay: Option<Time>,
    /// When it is started again after it has ended by itself: `never`, `on-failure`, or `always`.
    /// Otherwise the host ends, too, with the same status. Default: `never`.
    #[serde(default)]
    pub restart: Restart,
    /// How often in a row it is started again if it does not live for 10 seconds, with a pause that grows
    /// from 1 to 60 seconds. Default: 10.
    #[serde(default = "restarts")]
    pub restarts: u32,
    /// What it is stopped with. Default: `SIGTERM`.
    #[serde(default = "kill_signal")]
    pub kill_signal: Signal,
    /// How long it may take to end after that, before it is killed. Default: `30s`.
    #[serde(default = "patience")]
    pub kill_after: Time,
    /// The directory that it runs in. Default: the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Variables of its environment, besides those of the host. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// What is done with the program when a value has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    /// It is sent a signal.
    #[default]
    Signal,
    /// It is stopped and started again.
    Restart,
    /// Nothing: it sees for itself.
    None,
}

/// When the program is started again after it has ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never: its end is the host's.
    #[default]
    Never,
    /// When it has not ended with status 0.
    OnFailure,
    /// Always.
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

fn patience() -> Time {
    Time(Duration::from_secs(30))
}

/// Who lives for this long has not crashed at once.
const STEADY: Duration = Duration::from_secs(10);
/// The first pause before it is started again, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// What is there, but cannot be started; and what is not there: as shells say it.
const CANNOT_START: u8 = 126;
const NOT_FOUND: u8 = 127;

impl SupervisorSettings {
    /// This program, with all else as it is by default.
    #[must_use]
    pub fn new(command: CommandLine) -> Self {
        Self {
            command,
            on_change: OnChange::default(),
            signal: signal(),
            settle: settle(),
            splay: None,
            restart: Restart::default(),
            restarts: restarts(),
            kill_signal: kill_signal(),
            kill_after: patience(),
            directory: None,
            env: BTreeMap::new(),
        }
    }

    fn start(&self) -> io::Result<Group> {
        let mut command = self.command.to_command(str::to_owned);
        command.envs(&self.env);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        // Who is not in the terminal's group may not read it, and is not told of Ctrl-C.
        if io::stdin().is_terminal() {
            Group::start_beside(&mut command)
        } else {
            Group::start(&mut command)
        }
    }

    fn is_wanted_again(&self, exit: Exit) -> bool {
        match self.restart {
            Restart::Never => false,
            Restart::OnFailure => exit.code != 0,
            Restart::Always => true,
        }
    }
}

/// How the program has ended, as the host is to end: its status, or 128 and the number of the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The status for the host.
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
    fn not_started(error: &io::Error) -> Self {
        let missing = error.kind() == io::ErrorKind::NotFound;
        Self { code: if missing { NOT_FOUND } else { CANNOT_START } }
    }
}

/// The program at work. When this is dropped, it is killed with all that it has started.
#[derive(Debug)]
pub struct Supervisor {
    changed: Arc<Notify>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<Exit>,
    ended: Option<Exit>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Forward(Signal),
    Stop,
}

impl Supervisor {
    /// Starts the program, on the present tokio runtime: when all values that it needs are there.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(settings: SupervisorSettings) -> Self {
        let changed = Arc::new(Notify::new());
        let (orders, received) = mpsc::channel(16);
        let care = Care { settings, changed: Arc::clone(&changed), orders: received, crashes: 0 };
        Self { changed, orders, task: tokio::spawn(care.run()), ended: None }
    }

    /// A value has changed: the program is signalled or started again, once for all changes that come
    /// before that is done.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// Hands on a signal that was meant for the program. On a terminal, what the terminal itself sends to
    /// all is not handed on.
    pub fn forward(&self, signal: Signal) {
        let by_the_terminal = [Signal::INT, Signal::QUIT, Signal::WINCH].contains(&signal);
        if !(by_the_terminal && io::stdin().is_terminal()) {
            // More of them at once than there is room for say nothing new.
            let _ = self.orders.try_send(Order::Forward(signal));
        }
    }

    /// Waits until the program has ended for good, and is not started again.
    pub async fn ended(&mut self) -> Exit {
        if let Some(exit) = self.ended {
            return exit;
        }
        let exit = (&mut self.task).await.unwrap_or(Exit { code: u8::MAX });
        *self.ended.insert(exit)
    }

    /// Asks the program to end, kills what is left after `kill-after`, and gives its status.
    pub async fn stop(mut self) -> Exit {
        let _ = self.orders.send(Order::Stop).await;
        self.ended().await
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What looks after the program.
struct Care {
    settings: SupervisorSettings,
    changed: Arc<Notify>,
    orders: mpsc::Receiver<Order>,
    /// In a row.
    crashes: u32,
}

/// Why the program is not running any more.
enum Over {
    /// By itself.
    Ended(Exit),
    /// It was stopped, to be started again.
    Restart,
    /// It was stopped.
    Stopped(Exit),
}

impl Care {
    async fn run(mut self) -> Exit {
        loop {
            let started = Instant::now();
            // What has changed before it is started it sees by itself.
            let _ = timeout(Duration::ZERO, self.changed.notified()).await;
            let over = match self.settings.start() {
                Ok(group) => {
                    info!(command = %self.settings.command, "the program has been started");
                    self.attend(group).await
                }
                Err(error) => {
                    warn!(command = %self.settings.command, %error, "the program cannot be started");
                    Over::Ended(Exit::not_started(&error))
                }
            };
            match over {
                Over::Stopped(exit) => return exit,
                Over::Restart => self.crashes = 0,
                Over::Ended(exit) => {
                    let code = exit.code;
                    self.crashes = if started.elapsed() < STEADY { self.crashes + 1 } else { 1 };
                    if !self.settings.is_wanted_again(exit) || self.crashes > self.settings.restarts
                    {
                        info!(status = code, "the program has ended");
                        return exit;
                    }
                    let pause = PAUSE.saturating_mul(1 << (self.crashes - 1).min(6)).min(PAUSE_MAX);
                    warn!(status = code, ?pause, "the program has ended, and is started again");
                    if !self.pause(pause).await {
                        return exit;
                    }
                }
            }
        }
    }

    /// Until it is time to start the program again; not at all, if it is to be stopped.
    async fn pause(&mut self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(end) => return true,
                // What it did not live with may be gone.
                () = self.changed.notified() => return true,
                order = self.orders.recv() => match order {
                    Some(Order::Forward(signal)) if asks_to_end(signal) => return false,
                    Some(Order::Forward(_)) => {}
                    Some(Order::Stop) | None => return false,
                },
            }
        }
    }

    /// While the program runs.
    async fn attend(&mut self, mut group: Group) -> Over {
        // When it is to be told of a change; and whether it has been told.
        let (mut tell, mut told): (Option<Instant>, _) = (None, false);
        let started = Instant::now();
        let exit =
            |status: io::Result<ExitStatus>| status.map_or(Exit { code: u8::MAX }, Exit::from);
        loop {
            let due = tell.unwrap_or_else(Instant::now);
            tokio::select! {
                status = group.wait() => {
                    let exit = exit(status);
                    // What it has started goes with it.
                    drop(group);
                    let by_it = i32::from(exit.code) == 128 + self.settings.signal.number();
                    if told && by_it && started.elapsed() < STEADY {
                        info!("the change came before the program listened; it is started again");
                        return Over::Restart;
                    }
                    return Over::Ended(exit);
                }
                () = self.changed.notified(), if tell.is_none() => {
                    tell = Some(Instant::now() + self.settings.settle.0 + self.splay());
                }
                () = sleep_until(due), if tell.is_some() => {
                    tell = None;
                    // What came meanwhile is told with it.
                    let _ = timeout(Duration::ZERO, self.changed.notified()).await;
                    match self.settings.on_change {
                        OnChange::None => {}
                        OnChange::Signal => {
                            info!(signal = %self.settings.signal, "the program is told of a change");
                            group.signal(self.settings.signal);
                            told = true;
                        }
                        OnChange::Restart => {
                            info!("the program is started again, for a change");
                            return match self.stop(group).await {
                                (_, false) => Over::Restart,
                                (status, true) => Over::Stopped(exit(status)),
                            };
                        }
                    }
                }
                order = self.orders.recv() => match order {
                    Some(Order::Forward(signal)) => group.signal(signal),
                    Some(Order::Stop) | None => {
                        return Over::Stopped(exit(self.stop(group).await.0));
                    }
                }
            }
        }
    }

    /// Stops the program; and whether it is to stay so.
    async fn stop(&mut self, group: Group) -> (io::Result<ExitStatus>, bool) {
        let (signal, after) = (self.settings.kill_signal, self.settings.kill_after.0);
        let mut stopping = std::pin::pin!(group.stop(signal, after));
        let mut for_good = false;
        loop {
            tokio::select! {
                status = &mut stopping => return (status, for_good),
                order = self.orders.recv(), if !for_good => match order {
                    // It has been told to end already.
                    Some(Order::Forward(_)) => {}
                    Some(Order::Stop) | None => for_good = true,
                }
            }
        }
    }

    fn splay(&self) -> Duration {
        self.settings
            .splay
            .map_or(Duration::ZERO, |splay| splay.0.mul_f64(backoff::random_fraction()))
    }
}

fn asks_to_end(signal: Signal) -> bool {
    [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal)
}

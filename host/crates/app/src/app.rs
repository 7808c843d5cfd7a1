//! Lifecycle of a host with a configuration: start, event loop, supervision of the command, shutdown.

use crate::{
    app_handle::Handle,
    config::Config,
    config_and_plugin_file_triggers::FileTriggers,
    host_phase::Phase,
    managed_source::RETRY_INTERVAL,
    prepare::Prepared,
    readiness::Readiness,
    reconciler::Reconciler,
    reload_queue::{ReloadQueue, ReloadTrigger},
    state_dir_and_socket_paths::state_directory,
    state_persistence::StatePersistence,
    supervised_command_notification_debounce::CommandNotification,
};
use reloader_delivery::process::{Exit, Signal, Supervisor};
use reloader_fs_watch::FileFingerprint;
use reloader_plugin_runtime::{PluginHost, is_path};
use std::{collections::BTreeMap, future::pending, mem, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{info, warn};

/// Time after a stop request in which a second one counts as a duplicate. Some service managers signal each
/// process of a service: the host then receives the signal directly, and again from a parent that forwards it.
const DUPLICATE_STOP_WINDOW: Duration = Duration::from_secs(1);
/// Time from the start until the first log event that names the sources and sinks for which the command waits.
const FIRST_REMINDER_DELAY: Duration = Duration::from_secs(3);
/// Time between two log events that name the sources and sinks for which the command waits.
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// Time limit for stopping the sinks, the sources and the state store, after the command has ended. It is short,
/// because some container runtimes kill a process 10 seconds after the stop signal.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);
/// Additional time for the API server to stop, after [`SHUTDOWN_TIMEOUT`].
const SERVER_STOP_RESERVE: Duration = Duration::from_millis(500);
/// Maximum number of missing sources and sinks that one log event names.
const MAX_MISSING_SHOWN: usize = 5;

/// A running host: its sources and sinks, the file watches that trigger reloads, and the supervised command.
pub struct App {
    reconciler: Arc<Reconciler>,
    file_triggers: FileTriggers,
    readiness: Readiness,
    supervisor: Option<Supervisor>,
    /// Number of changes that the command has been notified of.
    notified_changes: u64,
    /// Set if the configuration is not reloaded.
    is_fixed: bool,
}

/// Request to a running host from the service manager or the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlRequest {
    /// Reload the configuration file.
    Reload,
    /// Shut down.
    Stop,
    /// Forward this signal to the program of `[command]`.
    Forward(Signal),
}

/// Reason why a host has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The host was stopped while no command was running: by [`ControlRequest::Stop`], or because the sender of the
    /// requests was dropped.
    Stopped,
    /// The program of `[command]` ended with this exit status.
    Command(u8),
    /// A source that the command requires, or every source, failed permanently. Contains the reason.
    PermanentFailure(String),
}

impl App {
    /// Starts all sources and sinks. Values that are restored from the state store are delivered at once.
    ///
    /// # Errors
    ///
    /// The state store cannot be opened, or a source cannot be started with its settings.
    pub async fn start(
        runtime: PluginHost,
        config: Config,
        prepared: Vec<Prepared>,
    ) -> anyhow::Result<Self> {
        let directory = state_directory(&config);
        let persistence = if config.state.enabled {
            StatePersistence::open(&directory?, &config.state).await?
        } else {
            StatePersistence::disabled()
        };
        let file_triggers = FileTriggers::new(&config.path, config.fingerprint);
        let reconciler = Reconciler::new(runtime, config, persistence);
        reconciler.start(prepared).await?;
        let readiness = Readiness::new(&reconciler);
        let mut app = Self {
            reconciler,
            file_triggers,
            readiness,
            supervisor: None,
            notified_changes: 0,
            is_fixed: false,
        };
        app.watch_plugins();
        Ok(app)
    }

    /// Makes the host keep its configuration: changes of the file are ignored.
    #[must_use]
    pub fn without_reloads(mut self) -> Self {
        self.is_fixed = true;
        self
    }

    /// Watches the files of the configured plugins, for changes since they were loaded.
    fn watch_plugins(&mut self) {
        let config = self.reconciler.config();
        let mut files: BTreeMap<String, Option<FileFingerprint>> = BTreeMap::new();
        for plugin in config.sources.iter().flat_map(|source| source.plugins()) {
            if is_path(plugin) && !files.contains_key(plugin) {
                files.insert(plugin.to_owned(), None);
            }
        }
        let sources = if files.is_empty() { Vec::new() } else { self.reconciler.sources() };
        for source in sources {
            for (plugin, fingerprint) in &source.prepared().fingerprints {
                if let Some(known) = files.get_mut(plugin) {
                    *known = *fingerprint;
                }
            }
        }
        self.file_triggers.watch_plugins(files);
    }

    /// Returns a handle for status queries and operations.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.reconciler))
    }

    /// Runs until a stop request, the end of the command, or a permanent failure. Then shuts down.
    pub async fn run(mut self, mut requests: mpsc::Receiver<ControlRequest>) -> Outcome {
        let mut deliveries = self.reconciler.notifier.deliveries.subscribe();
        let mut reloads = ReloadQueue::default();
        let mut retry_at = None;
        let mut remind_at = Instant::now() + FIRST_REMINDER_DELAY;
        let mut notification: Option<CommandNotification> = None;
        let outcome = loop {
            self.start_command();
            // Checked only between reloads: during a reload, all old sources may have ended before the new ones start.
            if reloads.is_empty()
                && let Some(reason) = self.permanent_failure()
            {
                break Outcome::PermanentFailure(reason);
            }
            if !self.needs_retry() {
                retry_at = None;
            } else if retry_at.is_none() {
                retry_at = Some(Instant::now() + RETRY_INTERVAL);
            }
            tokio::select! {
                request = requests.recv() => match request {
                    Some(ControlRequest::Reload) => reloads.add(ReloadTrigger::Config),
                    Some(ControlRequest::Forward(signal)) => {
                        if let Some(supervisor) = &self.supervisor {
                            supervisor.forward(signal);
                        }
                    }
                    Some(ControlRequest::Stop) | None => break Outcome::Stopped,
                },
                trigger = self.file_triggers.next(), if !self.is_fixed => {
                    if trigger == ReloadTrigger::Config {
                        info!("configuration file changed");
                    }
                    reloads.add(trigger);
                }
                () = self.readiness.changed(&self.reconciler) => {}
                () = reach(retry_at) => {
                    retry_at = Some(Instant::now() + RETRY_INTERVAL);
                    reloads.add(ReloadTrigger::Retry);
                }
                () = reloads.run_next(&self.reconciler) => self.watch_plugins(),
                _ = deliveries.changed() => {
                    let totals = *deliveries.borrow_and_update();
                    let now = Instant::now();
                    if mem::replace(&mut self.notified_changes, totals.changes) != totals.changes
                        && self.supervisor.is_some()
                    {
                        let has_groups = self.reconciler.has_groups();
                        notification
                            .get_or_insert_with(|| CommandNotification::new(has_groups, now));
                    }
                    if let Some(notification) = &mut notification {
                        let are_delivering = totals.delivering_group_sinks > 0;
                        notification.set_groups_delivering(are_delivering, now);
                    }
                }
                () = CommandNotification::due(notification.as_ref()) => {
                    notification = None;
                    if let Some(supervisor) = &self.supervisor {
                        supervisor.changed();
                    }
                }
                () = sleep_until(remind_at), if self.is_command_pending() => {
                    self.log_missing();
                    remind_at = Instant::now() + REMINDER_INTERVAL;
                }
                exit = command_exit(&mut self.supervisor) => break Outcome::Command(exit.code),
            }
        };
        drop(reloads);
        tokio::select! {
            exit = self.stop() => exit.map_or(outcome, |exit| Outcome::Command(exit.code)),
            () = second_stop_request(&mut requests) => {
                warn!("second stop signal during shutdown, exiting immediately");
                outcome
            }
        }
    }

    /// Starts the command once all required values are available.
    fn start_command(&mut self) {
        let config = self.reconciler.config();
        if let (None, Some(command)) = (&self.supervisor, &config.command)
            && self.readiness.is_complete()
        {
            info!("all required values available; starting the command");
            self.notified_changes = self.reconciler.notifier.deliveries.borrow().changes;
            self.supervisor = Some(Supervisor::start(command.clone()));
        }
    }

    /// Returns whether a command is configured and not started yet.
    fn is_command_pending(&self) -> bool {
        self.supervisor.is_none() && self.reconciler.config().command.is_some()
    }

    fn log_missing(&self) {
        let missing = self.reconciler.missing(usize::MAX);
        let mut waiting_for = missing[..missing.len().min(MAX_MISSING_SHOWN)].join(", ");
        if missing.len() > MAX_MISSING_SHOWN {
            waiting_for += &format!(" and {} more", missing.len() - MAX_MISSING_SHOWN);
        }
        info!(%waiting_for, "command waits for required values");
    }

    /// Returns whether a periodic retry is needed: a source update failed, or the running sources and groups may differ
    /// from the configuration in effect.
    fn needs_retry(&self) -> bool {
        self.readiness.has_rolled_back() || self.reconciler.is_reconciliation_pending()
    }

    /// Returns the permanent failure that ends the host: of a source that the command requires, or of all sources.
    /// Returns `None` while the command runs, or while the running sources may differ from the configuration in effect.
    fn permanent_failure(&self) -> Option<String> {
        if self.supervisor.is_some() || self.reconciler.is_reconciliation_pending() {
            return None;
        }
        let starts_command = self.reconciler.config().command.is_some();
        self.readiness.permanent_failure(&self.reconciler, starts_command)
    }

    /// Stops the command, then the sources and sinks. Returns the exit status of the command, if it was running.
    async fn stop(self) -> Option<Exit> {
        info!("stopping all sources and sinks");
        self.reconciler.phase.send_replace(Phase::Stopping);
        let exit = match self.supervisor {
            Some(supervisor) => Some(supervisor.stop().await),
            None => None,
        };
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        let _ = self.reconciler.shutdown_deadline.set(deadline + SERVER_STOP_RESERVE);
        // Each step of the stop observes the deadline itself. This timeout only ends a step that hangs.
        if timeout_at(deadline, self.reconciler.stop(deadline)).await.is_err() {
            warn!(timeout = ?SHUTDOWN_TIMEOUT, "host shutdown timed out, exiting anyway");
        }
        exit
    }
}

/// Waits for a stop request that is no duplicate of the first one.
async fn second_stop_request(requests: &mut mpsc::Receiver<ControlRequest>) {
    let window_end = Instant::now() + DUPLICATE_STOP_WINDOW;
    loop {
        match requests.recv().await {
            Some(ControlRequest::Stop) if Instant::now() >= window_end => return,
            Some(_) => {}
            None => pending().await,
        }
    }
}

/// Waits until the instant `at`. Never completes if `at` is `None`.
async fn reach(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Waits for the end of the command. Never completes without a command.
async fn command_exit(supervisor: &mut Option<Supervisor>) -> Exit {
    match supervisor {
        Some(supervisor) => supervisor.ended().await,
        None => pending().await,
    }
}

//! Command `host run --config`: runs a configuration until a stop request or the exit of `[command]`.

use crate::{
    cli_error::CliError,
    invalid_config::invalid_config,
    live_status_table::StatusTable,
    log_and_cache_args::CommonArgs,
    shutdown_deadline::exit_after,
    signals::{self, STOP_LIMIT},
    start_plugin_host::start_plugin_host,
    systemd,
};
use reloader_app::{App, Config, ControlRequest, LogFormat, LogLevel, Outcome, Unfinished};
use reloader_delivery::process;
use reloader_plugin_runtime::{Limits, PluginHost};
use reloader_server::{ServeError, Server};
use std::{
    io::{IsTerminal, stderr, stdout},
    pin::pin,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::warn;

/// Time limit for exporting the last metrics and traces and writing the last log events before the program exits.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Returns the live status table, if stderr is a terminal that shows a text log but no values and no output of
/// `[command]`.
pub(crate) fn status_table(common: &CommonArgs, config: &Config) -> Option<StatusTable> {
    let is_text = common.log_format.or(config.log.format) != Some(LogFormat::Json);
    let is_off = common.log_level.or(config.log.level) == Some(LogLevel::Off);
    let has_terminal = stderr().is_terminal() && config.command.is_none();
    let prints_values = config.prints_values() && stdout().is_terminal();
    (is_text && !is_off && has_terminal && !prints_values).then(StatusTable::new)
}

/// Requests that signals cause, and the time from a stop request until the program exits.
pub(crate) struct SignalRequests {
    requests: mpsc::Receiver<ControlRequest>,
    stop_limit: watch::Sender<Duration>,
}

impl SignalRequests {
    /// Installs the signal handlers. Until [`run`] is called, a stop request ends the program at once.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let stop_limit = watch::Sender::new(Duration::ZERO);
        let requests = signals::control_requests(stop_limit.subscribe())?;
        Ok(Self { requests, stop_limit })
    }
}

/// Runs `host run --config`: prepares the sources, starts the API server, and runs until a stop request or the exit of
/// `[command]`.
pub(crate) async fn run(
    config: Config,
    signals: SignalRequests,
    status_table: Option<StatusTable>,
    common: &CommonArgs,
) -> Result<(), CliError> {
    let SignalRequests { mut requests, stop_limit } = signals;
    stop_limit.send_replace(STOP_LIMIT);
    let grace_period =
        config.command.as_ref().map_or(Duration::ZERO, |command| command.kill_after.0);
    let runtime = start_plugin_host(common, Limits::default())?;
    let app = tokio::select! {
        app = start_app(&runtime, config) => app?,
        // Compiling plugins may take seconds. A stop request ends the host meanwhile.
        () = stop_requested(&mut requests) => {
            process::kill_running_groups();
            return Ok(());
        }
    };
    systemd::spawn_notifier(app.handle());
    let server = tokio::select! {
        server = Server::start(app.handle()) => server.map_err(|error| match error {
            ServeError::Settings(_) => CliError::usage(error),
            ServeError::Listen { .. } => CliError::runtime(error),
        })?,
        // The file system of a socket or a certificate may not answer. A stop request ends the host meanwhile.
        () = stop_requested(&mut requests) => {
            process::kill_running_groups();
            return Ok(());
        }
    };
    // From here on, `[command]` may run, and a shutdown may take its grace period in addition.
    stop_limit.send_replace(STOP_LIMIT.saturating_add(grace_period));
    #[cfg(feature = "otel")]
    let _metrics = crate::otel::Metrics::start(&app.handle());
    let table_task = status_table.clone().map(|table| tokio::spawn(table.show(app.handle())));
    let handle = app.handle();
    let outcome = app.run(requests).await;
    let deadline = handle.shutdown_deadline().unwrap_or_else(Instant::now);
    if timeout_at(deadline, server.stop()).await.is_err() {
        warn!("API server shutdown timed out");
    }
    // Exporting the last metrics and traces may wait for a hung collector, and writing the log for a hung reader of
    // stderr.
    exit_after(FLUSH_LIMIT, exit_status(&outcome));
    if let Some(table_task) = table_task {
        table_task.abort();
    }
    if let Some(table) = status_table {
        table.clear();
    }
    match outcome {
        Outcome::Stopped | Outcome::Command(0) => Ok(()),
        Outcome::Command(status) => Err(CliError::Reported(status)),
        Outcome::PermanentFailure(reason) => Err(CliError::Usage(reason)),
    }
}

/// Prepares and starts the sources of a configuration.
async fn start_app(runtime: &PluginHost, config: Config) -> Result<App, CliError> {
    let prepared = reloader_app::prepare(runtime, &config).await;
    let prepared = prepared.map_err(|error| invalid_config(&error))?;
    let app = App::start(runtime.clone(), config, prepared).await;
    app.map_err(|error| CliError::Runtime(message(&error)))
}

/// Runs `host run --config --once`: reads each source and delivers its value to each sink, for `limit` at most. Starts
/// neither the API nor `[command]`.
pub(crate) async fn run_once(
    mut config: Config,
    signals: SignalRequests,
    limit: Duration,
    common: &CommonArgs,
) -> Result<(), CliError> {
    let SignalRequests { mut requests, stop_limit } = signals;
    stop_limit.send_replace(STOP_LIMIT);
    config.command = None;
    let runtime = start_plugin_host(common, Limits::default())?;
    let started = Instant::now();
    let stopped = || CliError::Runtime("stopped before all values were delivered".into());
    let app = tokio::select! {
        app = start_app(&runtime, config) => app?.without_reloads(),
        () = stop_requested(&mut requests) => {
            process::kill_running_groups();
            return Err(stopped());
        }
        () = sleep(limit) => {
            process::kill_running_groups();
            let limit = humantime::format_duration(limit);
            let message = format!("the sources have not started within {limit} (`--timeout`)");
            return Err(CliError::Runtime(message));
        }
    };
    let handle = app.handle();
    let (stop, stop_requests) = mpsc::channel(1);
    let delivering = async {
        let unfinished = tokio::select! {
            unfinished = handle.delivered_once(limit.saturating_sub(started.elapsed())) => unfinished,
            () = stop_requested(&mut requests) => return Err(stopped()),
        };
        // Read before the sinks are stopped.
        let _ = stop.send(ControlRequest::Stop).await;
        Ok(unfinished)
    };
    let mut running = pin!(app.run(stop_requests));
    let unfinished = tokio::select! {
        unfinished = delivering => unfinished,
        outcome = &mut running => return Err(ended(outcome)),
    };
    drop(stop);
    let outcome = running.await;
    if matches!(outcome, Outcome::PermanentFailure(_)) {
        return Err(ended(outcome));
    }
    let unfinished = unfinished?;
    if unfinished.is_empty() { Ok(()) } else { Err(not_delivered(&unfinished, limit)) }
}

/// Returns the error of a host that has ended by itself: all its sources have ended.
fn ended(outcome: Outcome) -> CliError {
    match outcome {
        Outcome::PermanentFailure(reason) => CliError::Runtime(reason),
        _ => CliError::Runtime("the host has ended before all values were delivered".into()),
    }
}

/// Returns the error that lists what `--once` has not delivered.
fn not_delivered(unfinished: &[Unfinished], limit: Duration) -> CliError {
    let limit = humantime::format_duration(limit);
    let lines = unfinished.iter().map(|it| format!("\n{it}"));
    CliError::Runtime(format!(
        "not everything is delivered (`--timeout {limit}`):{}",
        lines.collect::<String>()
    ))
}

/// Returns the message of an error, followed by its causes. Omits a cause with which the message already ends.
fn message(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |message, cause| {
        if message.ends_with(&cause) { message } else { format!("{message}: {cause}") }
    })
}

/// Returns the exit status of the program for the reason why the host has ended.
fn exit_status(outcome: &Outcome) -> i32 {
    match outcome {
        Outcome::Stopped => 0,
        Outcome::Command(status) => (*status).into(),
        Outcome::PermanentFailure(_) => 2,
    }
}

/// Waits until a stop is requested, or the channel is closed. Discards all other requests.
async fn stop_requested(requests: &mut mpsc::Receiver<ControlRequest>) {
    while !matches!(requests.recv().await, Some(ControlRequest::Stop) | None) {}
}

//! `host run` without `--config`: runs one source with the plugin and the settings of the command line.

use crate::{
    blocking_operation_pool::POOL,
    cli_error::CliError,
    grant_and_limit_args::{GrantArgs, LimitArgs, limits_help},
    invalid_config::invalid_config,
    log_and_cache_args::CommonArgs,
    output_format::FormatArg,
    signals::Stop,
    source_egress_args::NetworkArgs,
    start_plugin_host::{load_error, start_plugin_host},
    stdout::{cannot_write, print_with, stdout_closed},
};
use clap::{ArgGroup, Args, ValueEnum};
use reloader_app::{Config, ListenAddress};
use reloader_delivery::{Format, Stdout};
use reloader_engine::types::{Failure, FailureKind, Outcome, Snapshot, SourceName, Strategy};
use reloader_plugin_runtime::{ConfigureError, SourceBuilder};
use reloader_policy::{Credential, Decision, plugin_settings::parse_pairs};
use reloader_source::{latest_value::store, running_source::Source};
use reloader_util::{program_name, units::Time};
use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};
use tokio::time::timeout;
use tracing::info;

/// Time limit of a graceful shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1500);

#[derive(Debug, Args)]
#[command(after_long_help = limits_help())]
#[command(group = ArgGroup::new("mode").args(["plugin", "config"]).required(true))]
pub(crate) struct RunArgs {
    /// Name of a bundled plugin, or path of a component
    #[arg(long, value_name = "NAME|PATH.wasm")]
    plugin: Option<String>,
    /// Configuration file with sources and sinks, instead of a plugin and its settings
    // `--config` conflicts with the arguments for a single source.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "plugin", "settings", "name", "strategy", "interval", "stale_after", "format", "credentials",
        "LimitArgs", "GrantArgs", "NetworkArgs",
    ])]
    config: Option<PathBuf>,
    /// Address of the API: IP address and port, or `unix:PATH` [default: `address` in `[listen]`]
    #[arg(long, value_name = "ADDRESS", requires = "config")]
    listen: Option<ListenAddress>,
    /// Setting of the plugin (see `inspect`); repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Name of the source in the output and the log [default: name of the plugin]
    #[arg(long)]
    name: Option<String>,
    /// Update strategy [default: hybrid if the plugin supports watching, else polling]
    #[arg(long, value_enum)]
    strategy: Option<StrategyArg>,
    /// Time between two polls, e.g. `500ms`, `10s`, `5m`. While a watch works, the source is polled every 5 minutes
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    interval: Time,
    /// Time without an answer of the source after which its value is reported as stale [default: 3 intervals, at least
    /// 30s]. While a watch works, this time is at least twice the limit `liveness`
    #[arg(long, value_name = "DURATION")]
    stale_after: Option<Time>,
    /// With `--plugin`, print the current value and exit. With `--config`, read each source, deliver its value to each
    /// sink, and exit: with status 0, or 1 and the names of what failed. `[command]` and the API are not started
    #[arg(long)]
    once: bool,
    /// Time limit of `--once` with `--config`
    #[arg(
        long,
        default_value = "30s",
        value_name = "DURATION",
        requires = "once",
        conflicts_with = "plugin"
    )]
    timeout: Time,
    /// `json`: one JSON object per line; `raw`: only the content, followed by a newline unless the content ends with
    /// one (with `--once`, byte for byte)
    #[arg(long, value_enum, default_value = "json")]
    format: FormatArg,
    /// Allow core dumps of the host, which contain secrets, and debuggers of the same user (Linux)
    #[arg(long)]
    enable_core_dumps: bool,
    #[command(flatten)]
    limits: LimitArgs,
    // These arguments have help headings of their own, so they come last.
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Credential that the host adds to requests to an origin, hidden from the plugin:
    /// `https://api.example.com=bearer:${env:TOKEN}`, `…=basic:USER:PASSWORD`, `…=header:NAME:VALUE`
    // The argument is parsed later, since clap would print an invalid credential in its error.
    #[arg(long = "credential", value_name = "ORIGIN=KIND:SECRET")]
    credentials: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StrategyArg {
    /// Read the source once in each interval
    Polling,
    /// Watch for changes
    Realtime,
    /// Watch for changes, with polling as fallback
    Hybrid,
}

impl RunArgs {
    /// Returns the time limit of a single delivery (`--once`).
    pub(crate) fn once_limit(&self) -> Option<Duration> {
        self.once.then_some(self.timeout.0)
    }

    /// Returns whether a configuration file is run.
    pub(crate) fn has_config(&self) -> bool {
        self.config.is_some()
    }

    /// Reads the configuration file; returns `None` without `--config`.
    pub(crate) fn config(&self) -> Result<Option<Config>, CliError> {
        let config = self.config.as_deref().map(Config::read).transpose();
        let mut config = config.map_err(|error| invalid_config(&error))?;
        if let (Some(config), Some(address)) = (&mut config, &self.listen) {
            config
                .serve_at(address.clone())
                .map_err(|error| CliError::Usage(format!("--listen: {error}")))?;
        }
        Ok(config)
    }

    pub(crate) fn enables_core_dumps(&self) -> bool {
        self.enable_core_dumps
    }

    fn plugin(&self) -> &str {
        self.plugin.as_deref().unwrap_or_default()
    }

    /// Runs one source: prints its value once (`--once`), or each new value until SIGINT or SIGTERM.
    pub(crate) async fn execute(self, common: &CommonArgs) -> Result<(), CliError> {
        let mut stop = Stop::listen()?;
        let limits = self.limits.limits().map_err(CliError::usage)?;
        let runtime = start_plugin_host(common, limits)?;
        // Compiling a plugin may take seconds. A signal ends the program meanwhile.
        let plugin = tokio::select! {
            loaded = runtime.load(self.plugin()) => loaded.map_err(|error| load_error(&error))?,
            () = stop.wait() => {
                let plugin = self.plugin();
                let message = format!("plugin `{plugin}`: stopped before the plugin was loaded");
                return if self.once { Err(CliError::Runtime(message)) } else { Ok(()) };
            }
        };
        let settings = self.settings.iter().map(String::as_str);
        let settings = parse_pairs(&plugin.description().settings, settings).map_err(|errors| {
            self.invalid_settings(&ConfigureError::Settings(errors).to_string())
        })?;
        let name = self.name.clone().unwrap_or_else(|| plugin.description().name.clone());
        let mut source = plugin
            .source(&name)
            .settings(settings.clone())
            .permission(self.grants.permission())
            .interval(self.interval.0);
        for credential in &self.credentials {
            source = source.credential(Credential::parse(credential).map_err(CliError::usage)?);
        }
        if let Some(strategy) = self.strategy {
            source = source.strategy(match strategy {
                StrategyArg::Polling => Strategy::Polling,
                StrategyArg::Realtime => Strategy::Realtime,
                StrategyArg::Hybrid => Strategy::Hybrid,
            });
        }
        if let Some(stale_after) = self.stale_after {
            source = source.stale_after(stale_after.0);
        }
        let source = self.network.apply(source).await?;
        let format = self.format.into();
        if self.once {
            let accesses = || plugin.decide(settings, self.grants.permission()).ok();
            self.once(&name, &source, accesses, format, stop).await
        } else {
            self.run_until_stopped(source, format, stop).await
        }
    }

    /// Reads the source once and prints its value. `accesses` returns the accesses that the settings require. It
    /// resolves the secrets again, so it is called only if the source has no value.
    async fn once(
        &self,
        name: &str,
        source: &SourceBuilder,
        accesses: impl FnOnce() -> Option<Decision>,
        format: Format,
        mut stop: Stop,
    ) -> Result<(), CliError> {
        let read = async {
            let origin = source.provider_off_thread().await;
            let origin = origin.map_err(|error| self.invalid_settings(&error.to_string()))?;
            let outcome = origin.reader().read(None).await;
            if let Ok(Outcome::Absent) = outcome {
                return Err(not_found(name, accesses().as_ref()));
            }
            self.print_once(name, outcome, format).await
        };
        tokio::select! {
            result = read => result,
            () = stop.wait() => {
                Err(CliError::Runtime(format!("source `{name}`: stopped before a value was available")))
            }
        }
    }

    /// Prints the value that a single read returned. Returns an error if the read failed or returned no value.
    async fn print_once(
        &self,
        name: &str,
        outcome: Result<Outcome, Failure>,
        format: Format,
    ) -> Result<(), CliError> {
        match outcome {
            Ok(Outcome::Changed(snapshot)) => {
                let name = SourceName::new(name);
                let print = move || print_with(|out| write_value(name, snapshot, format, out));
                // A full pipe blocks only the thread of this closure, so signals are still handled.
                POOL.spawn(print).await.map_err(CliError::runtime)?
            }
            Ok(Outcome::Absent | Outcome::Unchanged) => {
                Err(CliError::Runtime(format!("source `{name}`: the plugin returned no value")))
            }
            Err(failure) => Err(self.failed(name, &failure)),
        }
    }

    /// Prints each value until a signal arrives, standard output is closed, or the source stops.
    async fn run_until_stopped(
        &self,
        source: SourceBuilder,
        format: Format,
        mut stop: Stop,
    ) -> Result<(), CliError> {
        let started = tokio::select! {
            started = source.start_off_thread() => started,
            () = stop.wait() => return Ok(()),
        };
        let mut source: Source =
            started.map_err(|error| self.invalid_settings(&error.to_string()))?;
        let stdout = Stdout::new(source.name().clone(), format).run(source.subscribe());
        let mut stdout = tokio::spawn(stdout);
        let ended = tokio::select! {
            () = stop.wait() => Some(Ok(())),
            // The reader of the pipe has exited, as in `host run … | head -n 1`.
            () = stdout_closed() => Some(Ok(())),
            written = &mut stdout => match written {
                Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Some(Ok(())),
                Ok(Err(error)) => Some(Err(cannot_write(&error))),
                Ok(Ok(())) | Err(_) => None,
            },
            stopped = source.stopped() => Some(Err(self.stopped(source.name(), stopped))),
        };
        let ended = match ended {
            Some(ended) => ended,
            // The output ended because the source stopped. The result of the source contains the reason.
            None => {
                let stopped = source.stopped().await;
                Err(self.stopped(source.name(), stopped))
            }
        };
        info!("shutdown started");
        let shutdown = async {
            source.stop().await;
            // The output ends after the last value of the stopped source is written.
            if !stdout.is_finished() {
                let _ = stdout.await;
            }
        };
        if timeout(SHUTDOWN_TIMEOUT, shutdown).await.is_err() {
            info!(timeout = ?SHUTDOWN_TIMEOUT, "host shutdown timed out, exiting anyway");
        }
        ended
    }

    /// Returns the error for a source that has stopped without a request.
    fn stopped(&self, name: &SourceName, stopped: Result<(), Failure>) -> CliError {
        match stopped {
            Err(failure) => self.failed(name.as_str(), &failure),
            Ok(()) => CliError::Runtime(format!("source `{name}` stopped unexpectedly")),
        }
    }

    /// Returns the error for a failure of a source.
    fn failed(&self, name: &str, failure: &Failure) -> CliError {
        if failure.kind == FailureKind::Config {
            return self.invalid_settings(&format!("source `{name}`: {}", failure.message));
        }
        CliError::Runtime(format!("source `{name}`: {failure}"))
    }

    /// Returns the error for invalid settings, with a hint. The hint is on the same line if the message has one line.
    fn invalid_settings(&self, message: &str) -> CliError {
        let space = if message.contains('\n') { '\n' } else { ' ' };
        let (plugin, program) = (self.plugin(), program_name::get());
        CliError::Usage(format!(
            "{message}{space}(`{program} inspect {plugin}` shows the settings)"
        ))
    }
}

/// Returns the error for a source without a value. The message names the accesses that the settings require.
fn not_found(name: &str, accesses: Option<&Decision>) -> CliError {
    let requested = accesses.map(|decision| &*decision.requested).unwrap_or_default();
    let accesses: Vec<_> = requested.iter().map(|requested| &*requested.shown).collect();
    let accesses = match accesses[..] {
        [] => String::new(),
        _ => format!(" ({})", accesses.join(", ")),
    };
    CliError::Runtime(format!("source `{name}`: value not found{accesses}"))
}

/// Writes a single value: byte for byte, or as the first JSON line that `host run` without `--once` prints.
fn write_value(
    name: SourceName,
    snapshot: Snapshot,
    format: Format,
    out: &mut dyn Write,
) -> io::Result<()> {
    if format == Format::Raw {
        return out.write_all(&snapshot.content);
    }
    let (writer, mut reader) = store();
    writer.publish(1.into(), Some(snapshot));
    Stdout::new(name, format).write(reader.state(), out)
}

//! Commands for a configuration file: `host run --config`, `host check`, `host schema`.

use crate::{
    cli_error::CliError,
    common_args::CommonArgs,
    signals,
    start_plugin_host::start_plugin_host,
    status_table::StatusTable,
    stdout::{print, print_json, table},
    systemd,
};
use clap::Args;
use reloader_app::{
    self, App, Config, ConfigError, LogFormat, LogLevel, Order, Outcome, SourceCheck,
};
use reloader_plugin_runtime::Limits;
use reloader_server::{ServeError, Server};
use reloader_util::sanitize::sanitize;
use std::{
    io::{IsTerminal, Write as _, stderr, stdout},
    path::PathBuf,
};
use tokio::sync::mpsc;

/// Reports an invalid configuration file: with source lines on a terminal, else with one line per diagnostic.
pub(crate) fn invalid_config(error: &ConfigError) -> CliError {
    if !stderr().is_terminal() {
        return CliError::usage(error);
    }
    let styled = std::env::var_os("NO_COLOR").is_none();
    // The text is sanitised already and contains colours, so it is written as it is.
    let _ = std::io::Write::write_all(
        &mut stderr().lock(),
        format!("{}\n", error.render(styled)).as_bytes(),
    );
    CliError::Reported(2)
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "reloader.toml")]
    config: PathBuf,
    /// Also read each source once, and report the results
    #[arg(long)]
    online: bool,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// Time limit for the read of each source (with `--online`)
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "online")]
    timeout: reloader_util::units::Time,
}

impl CheckArgs {
    pub(crate) async fn execute(self, common: &CommonArgs) -> Result<(), CliError> {
        let runtime = start_plugin_host(common, Limits::default())?;
        let checked = reloader_app::check(&runtime, &self.config).await;
        let (config, prepared) = checked.map_err(|error| invalid_config(&error))?;
        let warnings = reloader_app::preflight_warnings(&config);
        for warning in &warnings {
            // A closed stderr is ignored.
            let _ = writeln!(stderr().lock(), "warning: {}", sanitize(warning));
        }
        if self.strict && !warnings.is_empty() {
            return Err(CliError::Reported(2));
        }
        let sinks = config.sources.iter().map(|source| source.sinks.len()).sum::<usize>()
            + config.groups.iter().map(|group| group.sinks.len()).sum::<usize>();
        let path = config.path.display();
        let count = |number: usize, noun: &str| {
            format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
        };
        if !self.online {
            let summary = match warnings.len() {
                0 => "OK".into(),
                number => format!("OK, {}", count(number, "warning")),
            };
            let text = format!(
                "{path}: {summary} ({}, {})\n",
                count(config.sources.len(), "source"),
                count(sinks, "sink")
            );
            return print(text.as_bytes());
        }
        let checks = reloader_app::check_online(&prepared, self.timeout.0).await;
        let mut table = table();
        table.set_header(["source", "plugin", "duration", "result"]);
        let mut failed = 0;
        for SourceCheck { name, plugin, took, answer } in checks {
            let duration = format!("{:.0} ms", took.as_secs_f64() * 1e3);
            let result = match answer {
                Ok(size) => format!("{size} bytes"),
                Err(error) => {
                    failed += 1;
                    format!("failed: {error}")
                }
            };
            table.add_row([name, plugin, duration, result]);
        }
        print(format!("{}\n", table.trim_fmt()).as_bytes())?;
        if failed > 0 {
            let failed = count(failed, "source");
            return Err(CliError::Runtime(format!("read failed for {failed}")));
        }
        Ok(())
    }
}

/// Returns the live status table below the log, if stderr is a terminal on which neither values nor the output of a
/// command are printed.
pub(crate) fn status_table(common: &CommonArgs, config: &Config) -> Option<StatusTable> {
    let is_text = common.log_format.or(config.log.format) != Some(LogFormat::Json);
    let is_off = common.log_level.or(config.log.level) == Some(LogLevel::Off);
    let has_terminal = stderr().is_terminal() && config.command.is_none();
    let prints_values = config.prints_values() && stdout().is_terminal();
    (is_text && !is_off && has_terminal && !prints_values).then(StatusTable::new)
}

/// Runs `host run --config`: prepares the sources, starts the server, and runs until an order or the end of the
/// command.
pub(crate) async fn run(
    config: Config,
    screen: Option<StatusTable>,
    common: &CommonArgs,
) -> Result<(), CliError> {
    let mut orders = signals::orders()?;
    let runtime = start_plugin_host(common, Limits::default())?;
    let ready = async {
        let prepared = reloader_app::prepare(&runtime, &config)
            .await
            .map_err(|error| invalid_config(&error))?;
        App::start(runtime.clone(), config, prepared)
            .await
            .map_err(|error| CliError::Runtime(format!("{error:#}")))
    };
    let app = tokio::select! {
        app = ready => app?,
        // Compiling plugins may take seconds, and the host can be stopped meanwhile.
        () = stop_ordered(&mut orders) => return Ok(()),
    };
    systemd::spawn_notifier(app.handle());
    let server = Server::start(app.handle()).await.map_err(|error| match error {
        ServeError::Settings(_) => CliError::usage(error),
        ServeError::Listen { .. } => CliError::runtime(error),
    })?;
    #[cfg(feature = "otel")]
    let _metrics = crate::otel::Metrics::start(&app.handle());
    let screen_task = screen.clone().map(|screen| tokio::spawn(screen.show(app.handle())));
    let outcome = app.run(orders).await;
    server.stop().await;
    if let Some(screen_task) = screen_task {
        screen_task.abort();
    }
    if let Some(screen) = screen {
        screen.clear();
    }
    match outcome {
        Outcome::Stopped | Outcome::Command(0) => Ok(()),
        Outcome::Command(status) => Err(CliError::Reported(status)),
        Outcome::PermanentFailure(reason) => Err(CliError::Usage(reason)),
    }
}

/// Waits for a stop order.
async fn stop_ordered(orders: &mut mpsc::Receiver<Order>) {
    while !matches!(orders.recv().await, Some(Order::Stop) | None) {}
}

/// Runs `host schema`: prints the JSON Schema of the configuration file.
pub(crate) fn schema() -> Result<(), CliError> {
    print_json(&reloader_app::schema())
}

//! Many sources: `host run --config`, `host check`, `host schema`.

use super::{Common, Failed, print, print_json, runtime, table};
use crate::{progress::Screen, signals, systemd};
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

/// What is wrong with a configuration file: with its lines on a terminal, one line each elsewhere.
pub(crate) fn wrong(error: &ConfigError) -> Failed {
    if !stderr().is_terminal() {
        return Failed::usage(error);
    }
    let styled = std::env::var_os("NO_COLOR").is_none();
    // It has been made fit to be shown, and has colours.
    let _ = std::io::Write::write_all(
        &mut stderr().lock(),
        format!("{}\n", error.render(styled)).as_bytes(),
    );
    Failed::Said(2)
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "reloader.toml")]
    config: PathBuf,
    /// Open each source once as well, and say what came of it
    #[arg(long)]
    online: bool,
    /// Take what would not work on this machine as it is now for wrong as well
    #[arg(long)]
    strict: bool,
    /// How long a source may take then
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "online")]
    timeout: reloader_util::units::Time,
}

impl CheckArgs {
    pub(crate) async fn execute(self, common: &Common) -> Result<(), Failed> {
        let runtime = runtime(common, Limits::default())?;
        let checked = reloader_app::check(&runtime, &self.config).await;
        let (config, prepared) = checked.map_err(|error| wrong(&error))?;
        let doubts = reloader_app::doubts(&config);
        for doubt in &doubts {
            // Nobody is left to tell if that fails.
            let _ = writeln!(stderr().lock(), "warning: {}", sanitize(doubt));
        }
        if self.strict && !doubts.is_empty() {
            return Err(Failed::Said(2));
        }
        let sinks = config.sources.iter().map(|source| source.sinks.len()).sum::<usize>()
            + config.groups.iter().map(|group| group.sinks.len()).sum::<usize>();
        let path = config.path.display();
        let count = |number: usize, what: &str| {
            format!("{number} {what}{}", if number == 1 { "" } else { "s" })
        };
        if !self.online {
            let verdict = match doubts.len() {
                0 => "all well".into(),
                doubts => format!("well, with {}", count(doubts, "warning")),
            };
            let text = format!(
                "{path}: {verdict} ({}, {})\n",
                count(config.sources.len(), "source"),
                count(sinks, "sink")
            );
            return print(text.as_bytes());
        }
        let checks = reloader_app::check_online(&prepared, self.timeout.0).await;
        let mut table = table();
        table.set_header(["source", "plugin", "took", "answer"]);
        let mut failed = 0;
        for SourceCheck { name, plugin, took, answer } in checks {
            let took = format!("{:.0} ms", took.as_secs_f64() * 1e3);
            let answer = match answer {
                Ok(size) => format!("{size} bytes"),
                Err(why) => {
                    failed += 1;
                    format!("failed: {why}")
                }
            };
            table.add_row([name, plugin, took, answer]);
        }
        print(format!("{}\n", table.trim_fmt()).as_bytes())?;
        if failed > 0 {
            let failed = count(failed, "source");
            return Err(Failed::Runtime(format!("{failed} could not be read")));
        }
        Ok(())
    }
}

/// Where the sources are shown live: below the log on a terminal, unless values are written there too.
pub(crate) fn screen(common: &Common, config: &Config) -> Option<Screen> {
    let is_text = common.log_format.or(config.log.format) != Some(LogFormat::Json);
    let is_off = common.log_level.or(config.log.level) == Some(LogLevel::Off);
    let has_terminal = stderr().is_terminal() && config.command.is_none();
    let prints_values = config.prints_values() && stdout().is_terminal();
    (is_text && !is_off && has_terminal && !prints_values).then(Screen::new)
}

/// `host run --config`.
pub(crate) async fn run(
    config: Config,
    screen: Option<Screen>,
    common: &Common,
) -> Result<(), Failed> {
    let mut orders = signals::orders()?;
    let runtime = runtime(common, Limits::default())?;
    let ready = async {
        let prepared =
            reloader_app::prepare(&runtime, &config).await.map_err(|error| wrong(&error))?;
        App::start(runtime.clone(), config, prepared)
            .await
            .map_err(|error| Failed::Runtime(format!("{error:#}")))
    };
    let app = tokio::select! {
        app = ready => app?,
        // Plugins may take their time to be compiled.
        () = stopped(&mut orders) => return Ok(()),
    };
    systemd::tell(app.handle());
    let server = Server::start(app.handle()).await.map_err(|error| match error {
        ServeError::Settings(_) => Failed::usage(error),
        ServeError::Listen { .. } => Failed::runtime(error),
    })?;
    #[cfg(feature = "otel")]
    let _metrics = crate::otel::Metrics::start(&app.handle());
    let shown = screen.clone().map(|screen| tokio::spawn(screen.show(app.handle())));
    let outcome = app.run(orders).await;
    server.stop().await;
    if let Some(shown) = shown {
        shown.abort();
    }
    if let Some(screen) = screen {
        screen.clear();
    }
    match outcome {
        Outcome::Stopped | Outcome::Command(0) => Ok(()),
        Outcome::Command(status) => Err(Failed::Said(status)),
        Outcome::Hopeless(why) => Err(Failed::Usage(why)),
    }
}

async fn stopped(orders: &mut mpsc::Receiver<Order>) {
    while !matches!(orders.recv().await, Some(Order::Stop) | None) {}
}

/// `host schema`.
pub(crate) fn schema() -> Result<(), Failed> {
    print_json(&reloader_app::schema())
}

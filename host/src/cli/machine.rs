//! Many sources: `host run --config`, `host check`, `host schema`, and what is asked of a running host:
//! `history`, `rollback`, `resume`, `reload`.

use super::{Common, Failed, print, progress::Screen, runtime, signals, systemd, table};
use crate::{
    app::{
        self, App, Config, ConfigError, LogFormat, LogLevel, Order, Outcome, Request, Response,
        SOCKET, SourceCheck, ask,
    },
    plugin::Limits,
    serve::{ServeError, Server},
    text::tidy,
    wire::{RefusedValue, SourceStatus},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serde::Serialize;
use std::{
    io::{IsTerminal, Write as _, stderr, stdout},
    path::PathBuf,
};
use tokio::sync::mpsc;

/// Which configuration, and so which running host.
#[derive(Debug, Args)]
pub(super) struct ConfigArg {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "reloader.toml")]
    config: PathBuf,
}

impl ConfigArg {
    async fn ask(&self, request: Request) -> Result<Response, Failed> {
        let directory = app::running_state_directory(&self.config).map_err(Failed::usage)?;
        ask(&directory.join(SOCKET), &request).await.map_err(Failed::runtime)
    }
}

/// What is wrong with a configuration file: with its lines on a terminal, one line each elsewhere.
pub(super) fn wrong(error: &ConfigError) -> Failed {
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
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Open each source once as well, and say what came of it
    #[arg(long)]
    online: bool,
    /// Take what would not work on this machine as it is now for wrong as well
    #[arg(long)]
    strict: bool,
    /// How long a source may take then
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "online")]
    timeout: crate::units::Time,
}

impl CheckArgs {
    pub(super) async fn execute(self, common: &Common) -> Result<(), Failed> {
        let runtime = runtime(common, Limits::default())?;
        let checked = app::check(&runtime, &self.config.config).await;
        let (config, prepared) = checked.map_err(|error| wrong(&error))?;
        let doubts = app::doubts(&config);
        for doubt in &doubts {
            // Nobody is left to tell if that fails.
            let _ = writeln!(stderr().lock(), "warning: {}", tidy(doubt));
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
        let checks = app::check_online(&prepared, self.timeout.0).await;
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
pub(super) fn screen(common: &Common, config: &Config) -> Option<Screen> {
    let is_text = common.log_format.or(config.log.format) != Some(LogFormat::Json);
    let is_off = common.log_level.or(config.log.level) == Some(LogLevel::Off);
    let has_terminal = stderr().is_terminal() && config.command.is_none();
    let prints_values = config.prints_values() && stdout().is_terminal();
    (is_text && !is_off && has_terminal && !prints_values).then(Screen::new)
}

/// `host run --config`.
pub(super) async fn run(
    config: Config,
    screen: Option<Screen>,
    common: &Common,
) -> Result<(), Failed> {
    let mut orders = signals::orders()?;
    let runtime = runtime(common, Limits::default())?;
    let ready = async {
        let prepared = app::prepare(&runtime, &config).await.map_err(|error| wrong(&error))?;
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
    let shown = screen.clone().map(|screen| tokio::spawn(screen.show(app.handle())));
    let outcome = app.run(orders).await;
    if let Some(server) = server {
        server.stop().await;
    }
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
pub(super) fn schema() -> Result<(), Failed> {
    print_json(&app::schema())
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The source's name
    source: String,
    /// Print the content of this revision instead, exactly
    #[arg(long, value_name = "REVISION")]
    show: Option<u64>,
    /// Print the content that was refused last instead, exactly
    #[arg(long, conflicts_with = "show")]
    refused: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "show")]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

impl HistoryArgs {
    pub(super) async fn execute(self) -> Result<(), Failed> {
        let source = self.source;
        if self.show.is_some() {
            let request = Request::Value { source, revision: self.show };
            return match self.config.ask(request).await? {
                Response::Value { content, .. } => {
                    print(&STANDARD.decode(content).map_err(Failed::runtime)?)
                }
                other => Err(unexpected(&other)),
            };
        }
        if self.refused {
            let refused = last_refused(&self.config, &source).await?;
            let refused = refused.ok_or_else(|| {
                Failed::Runtime(format!("no value of source `{source}` has been refused"))
            })?;
            if self.json {
                return print_json(&refused);
            }
            let content = refused.content.ok_or_else(|| {
                Failed::Runtime(format!(
                    "the content is not stored, since it is secret or larger than 1 MiB; it was refused \
                     since {}",
                    refused.reason
                ))
            })?;
            return print(&STANDARD.decode(content).map_err(Failed::runtime)?);
        }
        let entries = match self.config.ask(Request::History { source: source.clone() }).await? {
            Response::History(entries) => entries,
            other => return Err(unexpected(&other)),
        };
        if self.json {
            return print_json(&entries);
        }
        if entries.is_empty() {
            print(format!("source `{source}` has had no value yet\n").as_bytes())?;
        }
        let mut table = table();
        table.set_header(["revision", "at", "event", "bytes", "sha256"]);
        for entry in entries {
            table.add_row([
                entry.revision.to_string(),
                format!("{:.3}", entry.at),
                if entry.pinned { format!("{}, pinned", entry.event) } else { entry.event },
                entry.size.to_string(),
                entry
                    .sha256
                    .map(|digest| digest[..16.min(digest.len())].into())
                    .unwrap_or_default(),
            ]);
        }
        if !table.is_empty() {
            print(format!("{}\n", table.trim_fmt()).as_bytes())?;
        }
        let status = status(&self.config, &source).await?;
        if let Some(revision) = status.pinned {
            print(
                format!(
                    "\npinned to revision {revision}: `host resume {source}` follows the source again\n"
                )
                .as_bytes(),
            )?;
        }
        if status.state == "ended" {
            let why = status.trouble.unwrap_or_default();
            print(format!("\nended: {}\n", tidy(&why)).as_bytes())?;
        }
        match last_refused(&self.config, &source).await? {
            None => Ok(()),
            Some(refused) => print(
                format!(
                    "\nrefused last, at {:.3}: {}\n`host history {source} --refused` prints it\n",
                    refused.at,
                    tidy(&refused.reason)
                )
                .as_bytes(),
            ),
        }
    }
}

async fn status(config: &ConfigArg, source: &str) -> Result<SourceStatus, Failed> {
    match config.ask(Request::Status).await? {
        Response::Status(all) => {
            let mut all = all.into_iter();
            let gone = || Failed::Runtime(format!("source `{source}` is no longer configured"));
            all.find(|status| status.name == source).ok_or_else(gone)
        }
        other => Err(unexpected(&other)),
    }
}

async fn last_refused(config: &ConfigArg, source: &str) -> Result<Option<RefusedValue>, Failed> {
    match config.ask(Request::Refused { source: source.into() }).await? {
        Response::Refused(refused) => Ok(refused),
        other => Err(unexpected(&other)),
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(Failed::runtime)?;
    print(format!("{text}\n").as_bytes())
}

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The source's name
    source: String,
    /// The revision to go back to [default: the one before the present one]
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    #[command(flatten)]
    config: ConfigArg,
}

impl RollbackArgs {
    pub(super) async fn execute(self) -> Result<(), Failed> {
        let Self { source, to, config } = self;
        done(config.ask(Request::Rollback { source, to }).await?)
    }
}

#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// The source's name
    source: String,
    #[command(flatten)]
    config: ConfigArg,
}

impl SourceArgs {
    pub(super) async fn resume(self) -> Result<(), Failed> {
        let Self { source, config } = self;
        done(config.ask(Request::Resume { source }).await?)
    }

    pub(super) async fn reload(self) -> Result<(), Failed> {
        let Self { source, config } = self;
        done(config.ask(Request::Reload { source }).await?)
    }
}

fn done(response: Response) -> Result<(), Failed> {
    match response {
        Response::Done { message } => print(format!("{message}\n").as_bytes()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(response: &Response) -> Failed {
    Failed::Runtime(format!("the running host is of another version: {response:?}"))
}

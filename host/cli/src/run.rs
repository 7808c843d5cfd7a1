//! `host run`.

use super::{Common, Failed, print_by, runtime};
use crate::{
    daemon::wrong,
    grant_args::{LimitArgs, PermissionArgs, limits_help},
    network::NetworkArgs,
    signals::Stop,
};
use clap::{ArgGroup, Args, ValueEnum};
use reloader_app::{Config, ListenAddress};
use reloader_delivery::{Format, Stdout};
use reloader_engine::types::{Failure, FailureKind, Outcome, Snapshot, SourceName, Strategy};
use reloader_plugin_runtime::{ConfigureError, SourceBuilder};
use reloader_policy::{Credential, plugin_settings::parse_pairs};
use reloader_source::{handle::Source, store::store};
use reloader_util::units::Time;
use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};
use tokio::time::timeout;
use tracing::info;

/// An orderly stop takes no longer than this.
const STOP: Duration = Duration::from_millis(1500);

#[derive(Debug, Args)]
#[command(after_long_help = limits_help())]
#[command(group = ArgGroup::new("what").args(["plugin", "config"]).required(true))]
pub(crate) struct RunArgs {
    /// A bundled plugin's name, or the path of a component
    #[arg(long, value_name = "NAME|PATH.wasm")]
    plugin: Option<String>,
    /// A file that names many sources, and where their values go, instead of a plugin and its settings
    // Whatever says something of one source has no meaning then.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "plugin", "settings", "name", "strategy", "interval", "stale_after", "once", "format", "credentials",
        "LimitArgs", "PermissionArgs", "NetworkArgs",
    ])]
    config: Option<PathBuf>,
    /// Serve the API there: an address and a port, or `unix:` and a path [default: as `[listen]` says]
    #[arg(long, value_name = "ADDRESS", requires = "config")]
    listen: Option<ListenAddress>,
    /// One of the plugin's settings (see `host inspect`); can be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The source's name in the output and the log [default: the plugin's name]
    #[arg(long)]
    name: Option<String>,
    /// What drives the updates [default: hybrid where the plugin can watch, else polling]
    #[arg(long, value_enum)]
    strategy: Option<StrategyArg>,
    /// Time between two polls, e.g. `500ms`, `10s`, `5m`
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    interval: Time,
    /// When a value whose source does not answer is reported as stale
    /// [default: 3 intervals, at least 30s]
    #[arg(long, value_name = "DURATION")]
    stale_after: Option<Time>,
    /// Print the present value and end
    #[arg(long)]
    once: bool,
    /// `json`: one object a line; `raw`: the content alone
    /// (a line end follows where it has none, but not with `--once`)
    #[arg(long, value_enum, default_value = "json")]
    format: FormatArg,
    #[command(flatten)]
    limits: LimitArgs,
    // Below a heading of their own, each; so they come last.
    #[command(flatten)]
    permission: PermissionArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Send this along with requests to an origin, without the plugin seeing it:
    /// `https://api.example.com=bearer:${env:TOKEN}`, `…=basic:USER:PASSWORD`, `…=header:NAME:VALUE`
    // As text: what is wrong with it is said without repeating it.
    #[arg(long = "credential", value_name = "ORIGIN=KIND:SECRET")]
    credentials: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StrategyArg {
    /// Read it at the interval
    Polling,
    /// Wait for its events
    Realtime,
    /// Wait for its events, and poll while that does not work
    Hybrid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    Json,
    Raw,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Json => Self::Json,
            FormatArg::Raw => Self::Raw,
        }
    }
}

impl RunArgs {
    /// What is to run, if that stands in a file.
    pub(crate) fn config(&self) -> Result<Option<Config>, Failed> {
        let config = self.config.as_deref().map(Config::read).transpose();
        let mut config = config.map_err(|error| wrong(&error))?;
        if let (Some(config), Some(address)) = (&mut config, &self.listen) {
            config
                .serve_at(address.clone())
                .map_err(|why| Failed::Usage(format!("--listen: {why}")))?;
        }
        Ok(config)
    }

    fn plugin(&self) -> &str {
        self.plugin.as_deref().unwrap_or_default()
    }

    pub(crate) async fn execute(self, common: &Common) -> Result<(), Failed> {
        let mut stop = Stop::listen()?;
        let limits = self.limits.limits().map_err(Failed::usage)?;
        let runtime = runtime(common, limits)?;
        // A plugin may take its time to be compiled.
        let plugin = tokio::select! {
            loaded = runtime.load(self.plugin()) => loaded.map_err(Failed::usage)?,
            () = stop.wait() => {
                let plugin = self.plugin();
                let message = format!("plugin `{plugin}`: stopped before it was loaded");
                return if self.once { Err(Failed::Runtime(message)) } else { Ok(()) };
            }
        };
        let settings = self.settings.iter().map(String::as_str);
        let settings = parse_pairs(&plugin.description().settings, settings)
            .map_err(|errors| self.wrong(&ConfigureError::Settings(errors).to_string()))?;
        let name = self.name.clone().unwrap_or_else(|| plugin.description().name.clone());
        let mut source = plugin
            .source(&name)
            .settings(settings)
            .permission(self.permission.permission())
            .interval(self.interval.0);
        for credential in &self.credentials {
            source = source.credential(Credential::parse(credential).map_err(Failed::usage)?);
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
            self.once(&name, &source, format, stop).await
        } else {
            self.keep_up(source, format, stop).await
        }
    }

    async fn once(
        &self,
        name: &str,
        source: &SourceBuilder,
        format: Format,
        mut stop: Stop,
    ) -> Result<(), Failed> {
        let origin = source.origin().map_err(|error| self.wrong(&error.to_string()))?;
        let present = async {
            let outcome = origin.reader().read(None).await;
            self.print_once(name, outcome, format).await
        };
        tokio::select! {
            result = present => result,
            () = stop.wait() => {
                Err(Failed::Runtime(format!("source `{name}`: stopped before the value was there")))
            }
        }
    }

    async fn print_once(
        &self,
        name: &str,
        outcome: Result<Outcome, Failure>,
        format: Format,
    ) -> Result<(), Failed> {
        match outcome {
            Ok(Outcome::Changed(snapshot)) => {
                let name = SourceName::new(name);
                let print = move || print_by(|out| present(name, snapshot, format, out));
                // A pipe that nobody empties blocks that thread, and not the signals.
                tokio::task::spawn_blocking(print).await.map_err(Failed::runtime)?
            }
            Ok(Outcome::Absent) => {
                Err(Failed::Runtime(format!("source `{name}`: there is no value")))
            }
            Ok(Outcome::Unchanged) => {
                Err(Failed::Runtime(format!("source `{name}`: the plugin gave no value")))
            }
            Err(failure) => Err(self.failed(name, &failure)),
        }
    }

    async fn keep_up(
        &self,
        source: SourceBuilder,
        format: Format,
        mut stop: Stop,
    ) -> Result<(), Failed> {
        let mut source: Source = source.start().map_err(|error| self.wrong(&error.to_string()))?;
        let stdout = Stdout::new(source.name().clone(), format).run(source.subscribe());
        let mut stdout = tokio::spawn(stdout);
        let ended = tokio::select! {
            () = stop.wait() => Some(Ok(())),
            // Nobody reads any more: `host run … | head -n 1` has had what it wanted.
            () = reader_gone() => Some(Ok(())),
            written = &mut stdout => match written {
                Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Some(Ok(())),
                Ok(Err(error)) => Some(Err(cannot_write(&error))),
                Ok(Ok(())) | Err(_) => None,
            },
            stopped = source.stopped() => Some(Err(self.stopped(source.name(), stopped))),
        };
        let ended = match ended {
            Some(ended) => ended,
            // Nothing is written any more because the source has stopped: it knows why.
            None => {
                let stopped = source.stopped().await;
                Err(self.stopped(source.name(), stopped))
            }
        };
        info!("stopping");
        let in_order = async {
            source.stop().await;
            // It ends when its source has, after the last value has been written.
            if !stdout.is_finished() {
                let _ = stdout.await;
            }
        };
        if timeout(STOP, in_order).await.is_err() {
            info!("not everything ended in time");
        }
        ended
    }

    /// Why a source has stopped by itself.
    fn stopped(&self, name: &SourceName, stopped: Result<(), Failure>) -> Failed {
        match stopped {
            Err(failure) => self.failed(name.as_str(), &failure),
            Ok(()) => Failed::Runtime(format!("source `{name}`: it has stopped")),
        }
    }

    /// What the plugin says, or the host of the plugin.
    fn failed(&self, name: &str, failure: &Failure) -> Failed {
        if failure.kind == FailureKind::Config {
            return self.wrong(&format!("source `{name}`: {}", failure.message));
        }
        Failed::Runtime(format!("source `{name}`: {failure}"))
    }

    /// Wrong settings, with where to look them up: on the same line, if it is one.
    fn wrong(&self, message: &str) -> Failed {
        let space = if message.contains('\n') { '\n' } else { ' ' };
        let plugin = self.plugin();
        Failed::Usage(format!("{message}{space}(`host inspect {plugin}` shows the settings)"))
    }
}

/// The one value: exactly its bytes, or the line that a running source would print first.
fn present(
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

fn cannot_write(error: &io::Error) -> Failed {
    Failed::Runtime(format!("cannot write to standard output: {error}"))
}

/// Waits until nobody can read standard output any more, also while there is nothing to write.
pub(crate) async fn reader_gone() {
    use rustix::event::{PollFd, PollFlags, poll};
    let (gone, wait) = tokio::sync::oneshot::channel();
    // A thread of its own: the system tells of it only to who waits in `poll`.
    let watching = std::thread::Builder::new().name("stdout".into()).spawn(move || {
        let stdout = io::stdout();
        let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
        while let Err(rustix::io::Errno::INTR) = poll(&mut pipe, None) {}
        // POLLERR is what a pipe without a reader says; others say other things, and are let be.
        if pipe[0].revents().contains(PollFlags::ERR) {
            let _ = gone.send(());
        }
    });
    if watching.is_err() || wait.await.is_err() {
        std::future::pending::<()>().await;
    }
}

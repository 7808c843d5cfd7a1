//! `host run`.

use super::{Common, Failed, print, runtime};
use crate::{
    Source, Strategy,
    config::parse_pairs,
    delivery::{Format, Stdout},
    model::{FailureKind, Outcome, Snapshot, SourceName},
    plugin::SourceBuilder,
    store::{State, store},
};
use clap::{Args, ValueEnum};
use std::{io, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tracing::info;

/// An orderly stop takes no longer than this.
const STOP: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A bundled plugin's name, or the path of a component
    #[arg(long, value_name = "NAME|PATH.wasm")]
    plugin: String,
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
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    interval: Duration,
    /// When a value whose source does not answer is reported as stale
    /// [default: 3 intervals, at least 30s]
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    stale_after: Option<Duration>,
    /// Print the present value and end
    #[arg(long)]
    once: bool,
    /// `json`: one object a line; `raw`: the content alone
    #[arg(long, value_enum, default_value = "json")]
    format: FormatArg,
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
enum FormatArg {
    Json,
    Raw,
}

impl RunArgs {
    pub(super) async fn execute(self, common: &Common) -> Result<(), Failed> {
        let plugin = runtime(common)?.load(&self.plugin).await.map_err(Failed::usage)?;
        let settings = self.settings.iter().map(String::as_str);
        let settings = parse_pairs(&plugin.description().settings, settings).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            self.wrong(&lines.join("\n"))
        })?;
        let name = self.name.clone().unwrap_or_else(|| plugin.description().name.clone());
        let mut source = plugin.source(&name).settings(settings).interval(self.interval);
        if let Some(strategy) = self.strategy {
            source = source.strategy(match strategy {
                StrategyArg::Polling => Strategy::Polling,
                StrategyArg::Realtime => Strategy::Realtime,
                StrategyArg::Hybrid => Strategy::Hybrid,
            });
        }
        if let Some(stale_after) = self.stale_after {
            source = source.stale_after(stale_after);
        }
        let format = match self.format {
            FormatArg::Json => Format::Json,
            FormatArg::Raw => Format::Raw,
        };
        if self.once {
            self.once(&name, &source, format).await
        } else {
            self.keep_up(source, format).await
        }
    }

    async fn once(&self, name: &str, source: &SourceBuilder, format: Format) -> Result<(), Failed> {
        let origin = source.origin().map_err(|error| self.wrong(&error.to_string()))?;
        let outcome = tokio::select! {
            outcome = async { origin.reader().read(None).await } => outcome,
            result = stop_signal() => return result.map_err(Failed::runtime),
        };
        match outcome {
            Ok(Outcome::Changed(snapshot)) => print(&self.present(name, snapshot, format)),
            Ok(Outcome::Absent) => {
                Err(Failed::Runtime(format!("source `{name}`: there is no value")))
            }
            Ok(Outcome::Unchanged) => {
                Err(Failed::Runtime(format!("source `{name}`: the plugin gave no value")))
            }
            Err(failure) if failure.kind == FailureKind::Config => {
                Err(self.wrong(&failure.message))
            }
            Err(failure) => Err(Failed::Runtime(format!("source `{name}`: {failure}"))),
        }
    }

    /// The one value: exactly its bytes, or the line that a running source would print first.
    fn present(&self, name: &str, snapshot: Snapshot, format: Format) -> Vec<u8> {
        if format == Format::Raw {
            return snapshot.content.to_vec();
        }
        let (writer, mut reader) = store();
        writer.publish(Some(snapshot));
        let state: State = reader.state();
        Stdout::new(SourceName::new(name), format).take(state)
    }

    async fn keep_up(&self, source: SourceBuilder, format: Format) -> Result<(), Failed> {
        let mut source: Source = source.start().map_err(|error| self.wrong(&error.to_string()))?;
        let stdout = Stdout::new(source.name().clone(), format).run(source.subscribe());
        let mut stdout = tokio::spawn(stdout);
        let ended = tokio::select! {
            signal = stop_signal() => signal.map_err(Failed::runtime),
            written = &mut stdout => match written {
                // Nobody reads any more: `host run … | head -n 1` has had what it wanted.
                Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(Failed::Runtime(format!("cannot write to standard output: {error}")))
                }
                _ => Ok(()),
            },
            stopped = source.stopped() => Err(match stopped {
                Err(failure) if failure.kind == FailureKind::Config => self.wrong(&failure.message),
                Err(failure) => Failed::Runtime(failure.to_string()),
                Ok(()) => Failed::Runtime("the source has stopped".into()),
            }),
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

    /// Wrong settings, with where to look them up.
    fn wrong(&self, message: &str) -> Failed {
        let plugin = &self.plugin;
        Failed::Usage(format!(
            "{message}\nhint: `host inspect {plugin}` shows the settings of this plugin"
        ))
    }
}

/// Waits for SIGINT or SIGTERM.
async fn stop_signal() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// `10s`, `500ms`, `1h30m`; never nothing, since an interval of nothing would poll without end.
fn duration(text: &str) -> Result<Duration, String> {
    let duration: Duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected e.g. `500ms`, `10s`, `5m`"))?;
    if duration < Duration::from_millis(1) {
        return Err("expected at least `1ms`".into());
    }
    Ok(duration)
}

//! Where the log goes: to stderr, since stdout belongs to values.

use super::Common;
#[cfg(feature = "otel")]
use crate::otel::Traces;
use crate::progress::Screen;
use reloader_app::{LogFormat, LogLevel, LogTable};
use reloader_source::telemetry;
use std::io::{IsTerminal, stderr};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    EnvFilter, Layer, fmt, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _,
};

/// What is logged is written when this is dropped, and what is traced is sent.
pub(crate) struct Logging {
    _written: WorkerGuard,
    #[cfg(feature = "otel")]
    _sent: Option<Traces>,
}

/// Starts logging. `RUST_LOG` wins over `--log-level`, and that over the configuration file. What has been
/// logged is written, as far as somebody reads it, when the guard is dropped.
pub(crate) fn start(common: &Common, table: &LogTable, screen: Option<Screen>) -> Logging {
    let log_level = common.log_level.or(table.level).unwrap_or(LogLevel::Info);
    let log_format = common.log_format.or(table.format).unwrap_or(LogFormat::Text);
    let level = match log_level {
        LogLevel::Off => "off",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // What the libraries have to say below a warning is for whoever asks for it by name.
    let others = if matches!(log_level, LogLevel::Off | LogLevel::Error) { level } else { "warn" };
    // What these warn of are the doings of plugins and servers, which the host tells in its own words.
    let guests = [
        "h2",
        "hyper",
        "hyper_util",
        "rustls",
        "tower_http",
        "wasmtime_wasi",
        "wasmtime_wasi_http",
    ];
    let guests: String = guests.iter().map(|library| format!("{library}=off,")).collect();
    // Spans are for those who follow from afar.
    let spans = telemetry::TARGET;
    let default = format!("{others},{guests}reloader_={level},{spans}=off");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // A thread and a bounded queue of its own: a stderr that nobody reads must not hold up values.
    let (writer, guard) = match screen {
        Some(screen) => tracing_appender::non_blocking(screen),
        None => tracing_appender::non_blocking(stderr()),
    };
    let layer = fmt::layer()
        .with_writer(writer)
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let layer = match log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let log = registry().with(layer.with_filter(filter));
    #[cfg(feature = "otel")]
    let (traces, wrong) = match Traces::start() {
        Ok(traces) => (traces, None),
        Err(why) => (None, Some(why)),
    };
    #[cfg(feature = "otel")]
    let log = log.with(traces.as_ref().map(Traces::layer));
    log.init();
    #[cfg(feature = "otel")]
    if let Some(why) = wrong {
        tracing::warn!("traces are not sent by OTLP: {why}");
    }
    Logging {
        _written: guard,
        #[cfg(feature = "otel")]
        _sent: traces,
    }
}

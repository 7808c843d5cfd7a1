//! Log setup: level, format, and a non-blocking writer to stderr. Standard output is reserved for values.

#[cfg(feature = "otel")]
use crate::otel::Traces;
use crate::{
    live_status_table::StatusTable, log_and_cache_args::CommonArgs,
    thread_start_error::start_threads,
};
use reloader_app::{LogFormat, LogLevel, LogTable};
use reloader_source::spans;
use std::io::{IsTerminal, stderr};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, fmt, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _,
};

/// Guard of the log. Dropping it flushes the log and exports the remaining traces.
pub(crate) struct Logging {
    _writer: WorkerGuard,
    #[cfg(feature = "otel")]
    _traces: Option<Traces>,
}

/// Starts logging. `RUST_LOG` overrides `--log-level`, which overrides the configuration file.
pub(crate) fn start(
    common: &CommonArgs,
    table: &LogTable,
    status_table: Option<StatusTable>,
) -> Logging {
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
    // Libraries log warnings and errors only. `RUST_LOG` can set other levels.
    let libraries =
        if matches!(log_level, LogLevel::Off | LogLevel::Error) { level } else { "warn" };
    // These libraries warn about errors of plugins and servers, which the host logs itself.
    let silent = [
        "h2",
        "hyper",
        "hyper_util",
        "rustls",
        "tower_http",
        "wasmtime_wasi",
        "wasmtime_wasi_http",
    ];
    let silent: String = silent.iter().map(|library| format!("{library}=off,")).collect();
    // Spans are exported to OpenTelemetry but not logged.
    let spans = spans::TARGET;
    let default = format!("{libraries},{silent}reloader_={level},{spans}=off");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // The log has its own thread and a bounded queue, so that a blocked stderr does not delay values.
    let log_thread = NonBlockingBuilder::default().thread_name("reloader-log");
    let (writer, guard) = start_threads("the log", || match status_table {
        Some(status_table) => log_thread.finish(status_table),
        None => log_thread.finish(stderr()),
    });
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
    let (traces, traces_error) = match Traces::start() {
        Ok(traces) => (traces, None),
        Err(error) => (None, Some(error)),
    };
    #[cfg(feature = "otel")]
    let log = log.with(traces.as_ref().map(Traces::layer));
    log.init();
    #[cfg(feature = "otel")]
    if let Some(error) = traces_error {
        tracing::warn!(%error, "OTLP trace export disabled");
    }
    Logging {
        _writer: guard,
        #[cfg(feature = "otel")]
        _traces: traces,
    }
}

//! Catalog of all metrics: names, help texts, units, and where their numbers come from. `/metrics` and OTLP export
//! share it.
//!
//! A name has the prefix `reloader_` in `/metrics` and `reloader.` in OTLP. The Prometheus encoder appends the unit
//! and, for counters, `_total`. Help texts have no full stop at the end: the encoder appends one.

use jiff::Timestamp;
use reloader_app::{SinkCounts, SourceCounts};
use reloader_source::metrics::Distribution;

/// Name, help text, kind and unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name, without prefix and unit.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// Unit; `None` for plain numbers.
    pub unit: Option<MetricUnit>,
}

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Number that only increases.
    Counter,
    /// Number that increases and decreases.
    Gauge,
    /// Distribution of durations.
    Histogram,
    /// Labels that describe the host, on a metric whose value is always 1.
    Info,
}

/// Unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl MetricUnit {
    /// Returns the UCUM code of the unit, which OpenTelemetry uses.
    #[must_use]
    pub fn ucum(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "By",
        }
    }
}

const fn metric(kind: MetricKind, name: &'static str, help: &'static str) -> Metric {
    Metric { name, help, kind, unit: None }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    metric(MetricKind::Counter, name, help)
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    metric(MetricKind::Gauge, name, help)
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    metric(MetricKind::Histogram, name, help).seconds()
}

impl Metric {
    const fn seconds(self) -> Self {
        Self { unit: Some(MetricUnit::Seconds), ..self }
    }

    const fn bytes(self) -> Self {
        Self { unit: Some(MetricUnit::Bytes), ..self }
    }
}

/// Version of the host, by the label `version`.
pub const BUILD: Metric = metric(
    MetricKind::Info,
    "build",
    "Build information: always 1; the label `version` is the version of the host",
);
/// Start time of the host.
pub const START_TIME: Metric =
    gauge("start_time", "Start time of the host, in seconds since the Unix epoch").seconds();
/// 1 if the last reload of the configuration failed.
pub const CONFIG_REJECTED: Metric = gauge(
    "config_rejected",
    "1 if the configuration file is invalid and the previous configuration is in effect, else 0",
);
/// 1 if the state store cannot be written.
pub const STATE_FAILING: Metric = gauge(
    "state_failing",
    "1 if the state store cannot be written, so that a crash would lose published values, else 0",
);
/// Resident memory of the host.
pub const RESIDENT_MEMORY: Metric =
    gauge("resident_memory", "Resident memory of the host, in bytes").bytes();
/// CPU time of the host.
pub const CPU: Metric = counter("cpu", "CPU time used by the host, in seconds").seconds();
/// Requests to the API, by the label `status`.
pub const HTTP_REQUESTS: Metric =
    counter("http_requests", "HTTP requests answered, by status class");
/// Connections to the API.
pub const HTTP_CONNECTIONS: Metric = gauge("http_connections", "Open connections to the API");
/// Open event streams.
pub const EVENT_STREAMS: Metric = gauge("event_streams", "Open event streams");
/// Overflows of the inotify queue.
pub const FILE_EVENT_OVERFLOWS: Metric = counter(
    "file_event_overflows",
    "Overflows of the inotify event queue; each caused a rescan of all watched files",
);

/// State of a source, by the label `state`.
pub const SOURCE_STATE: Metric =
    gauge("source_state", "State of the source: 1 for its current state, 0 for the others");
/// Failures of a source, by the labels `role` and `kind`.
pub const FAILURES: Metric =
    counter("failures", "Failed reads and watches of the source, by role and kind of failure");
/// 1 if the last delivery to a sink failed.
pub const SINK_FAILING: Metric =
    gauge("sink_failing", "1 if the last delivery to the sink failed, else 0");

/// Counter or gauge of each source, and the function that returns the number of a source at the given time; `None`
/// if the source has no number.
pub type SourceMetric = (Metric, fn(&SourceCounts, Timestamp) -> Option<f64>);

/// Histogram of each source, and the function that returns its distribution.
pub type SourceHistogram = (Metric, fn(&SourceCounts) -> &Distribution);

/// Counter of each sink, and the function that returns its number.
pub type SinkMetric = (Metric, fn(&SinkCounts) -> f64);

/// Counters and gauges of sources.
pub const SOURCE_METRICS: [SourceMetric; 15] = [
    (counter("changes", "Values published"), |source, _| Some(source.counts.changes as f64)),
    (counter("removals", "Published removals of the value"), |source, _| {
        Some(source.counts.removals as f64)
    }),
    (counter("rejected_values", "Values rejected by validation"), |source, _| {
        Some(source.counts.rejected_values as f64)
    }),
    (counter("watches_opened", "Attempts to open a watch, failed ones included"), |source, _| {
        Some(source.counts.watches as f64)
    }),
    (
        counter("quarantines", "Number of times the plugin was quarantined after repeated crashes"),
        |source, _| Some(source.counts.quarantines as f64),
    ),
    (
        counter(
            "denied_accesses",
            "Accesses denied to the plugin because a grant was missing, and exceeded rate limits of the plugin",
        ),
        |source, _| Some(source.counts.denied_accesses as f64),
    ),
    (counter("plugin_cpu", "CPU time used by the plugin, in seconds").seconds(), |source, _| {
        Some(source.counts.cpu.as_secs_f64())
    }),
    (gauge("plugin_memory", "Memory allocated by the plugin, in bytes").bytes(), |source, _| {
        Some(source.confinement.memory as f64)
    }),
    (
        gauge("revision", "Current revision of the value; it increases across restarts"),
        |source, _| Some(source.status.revision as f64),
    ),
    (gauge("pinned", "1 if the source is pinned to a revision, else 0"), |source, _| {
        Some(one_if(source.status.pinned.is_some()))
    }),
    (
        gauge("stale", "1 if the source has not confirmed its value within `stale-after`, else 0"),
        |source, _| Some(one_if(source.state.stale.is_some())),
    ),
    (gauge("failing", "1 if the last read of the source failed, else 0"), |source, _| {
        Some(one_if(source.state.failing.is_some()))
    }),
    (
        gauge(
            "value",
            "Size of the current value, in bytes; absent if the values of the source are not readable",
        )
        .bytes(),
        |source, _| {
            let value = source.state.value.as_ref().filter(|_| source.readable);
            value.map(|value| value.content.len() as f64)
        },
    ),
    (
        gauge("value_age", "Seconds since the current value was published").seconds(),
        |source, now| {
            source.state.value.as_ref().and(source.status.at).map(|at| seconds_since(at, now))
        },
    ),
    (
        gauge("confirmation_age", "Seconds since the source last confirmed its value").seconds(),
        |source, now| source.status.last_success_at.map(|at| seconds_since(at, now)),
    ),
];

/// Histograms of sources.
pub const SOURCE_HISTOGRAMS: [SourceHistogram; 2] = [
    (histogram("read_duration", "Duration of reads of the source, in seconds"), |source| {
        &source.counts.reads
    }),
    (
        histogram(
            "reaction",
            "Time from the first watch event of a change to the publication of the new value, in seconds",
        ),
        |source| &source.counts.reactions,
    ),
];

/// Counters of sinks.
pub const SINK_COUNTERS: [SinkMetric; 3] = [
    (counter("sink_deliveries", "Successful deliveries to the sink"), |sink| sink.succeeded as f64),
    (counter("sink_failures", "Failed delivery attempts of the sink"), |sink| sink.failed as f64),
    (counter("sink_retries", "Delivery attempts that were retries"), |sink| sink.retried as f64),
];

/// Failures of a source: role (`read` or `watch`), kind, and number.
pub type FailureCount = (&'static str, &'static str, f64);

/// Returns the numbers of [`FAILURES`] of a source.
pub fn failures(source: &SourceCounts) -> impl Iterator<Item = FailureCount> {
    let counts = &source.counts;
    let by_kind = |role, failures: &[(&'static str, u64)]| {
        let by_kind = failures.iter().map(move |(kind, count)| (role, *kind, *count as f64));
        by_kind.collect::<Vec<_>>()
    };
    let reads = by_kind("read", &counts.read_failures);
    reads.into_iter().chain(by_kind("watch", &counts.watch_failures))
}

/// Returns 1 for `true`, 0 for `false`.
pub(crate) fn one_if(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

/// Returns the seconds from `at` to `now`; 0 if the clock was set back.
fn seconds_since(at: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(at).as_secs_f64().max(0.0)
}

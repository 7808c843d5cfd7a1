//! Catalog of the metrics of sources and sinks: names, help texts, units. `/metrics` and OTLP export share it.
//!
//! Help texts have no full stop at the end: the Prometheus encoder appends one.

use jiff::Timestamp;
use reloader_app::{SinkCounts, SourceCounts};
use reloader_source::metrics::Distribution;

/// Catalog of all metrics of sources and sinks.
pub struct Numbers;

/// Counter or gauge that each source has.
pub struct SourceNumber {
    /// Name of the metric.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Unit; `None` for plain numbers.
    pub unit: Option<NumberUnit>,
    /// `true` for a counter, `false` for a gauge.
    pub is_counter: bool,
    /// Returns the metric of a source at the given time; `None` if the source has none.
    pub read: fn(&SourceCounts, Timestamp) -> Option<f64>,
}

/// Unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberUnit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl NumberUnit {
    /// Returns the UCUM code of the unit, which OpenTelemetry uses.
    pub fn ucum(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "By",
        }
    }
}

type Read = fn(&SourceCounts, Timestamp) -> Option<f64>;

fn counter(name: &'static str, help: &'static str, read: Read) -> SourceNumber {
    SourceNumber { name, help, unit: None, is_counter: true, read }
}

fn gauge(name: &'static str, help: &'static str, read: Read) -> SourceNumber {
    SourceNumber { is_counter: false, ..counter(name, help, read) }
}

impl SourceNumber {
    fn seconds(self) -> Self {
        Self { unit: Some(NumberUnit::Seconds), ..self }
    }

    fn bytes(self) -> Self {
        Self { unit: Some(NumberUnit::Bytes), ..self }
    }
}

/// Failures of a source: role (`read` or `watch`), kind, and number.
pub type Failures = (&'static str, &'static str, f64);

/// Histogram of durations that each source has: name, help text, and distribution.
pub type SourceTimes = (&'static str, &'static str, fn(&SourceCounts) -> &Distribution);

/// Counter that each sink has: name, help text, and number.
pub type SinkNumber = (&'static str, &'static str, fn(&SinkCounts) -> f64);

/// Name and help text of the counter of failures.
pub const FAILURES: (&str, &str) =
    ("failures", "Failed reads and watches of the source, by role and kind of failure");

impl Numbers {
    /// Returns the counters and gauges of sources.
    pub fn of_sources() -> [SourceNumber; 15] {
        [
            counter("changes", "Values published", |source, _| Some(source.counts.changes as f64)),
            counter("removals", "Removals of the value published", |source, _| {
                Some(source.counts.removals as f64)
            }),
            counter("refused_values", "Values rejected by validation", |source, _| {
                Some(source.counts.refused_values as f64)
            }),
            counter("watches_opened", "Watches opened, reconnects included", |source, _| {
                Some(source.counts.watches as f64)
            }),
            counter(
                "quarantines",
                "Number of times the plugin was quarantined after repeated crashes",
                |source, _| Some(source.counts.quarantines as f64),
            ),
            counter(
                "refused_accesses",
                "Accesses denied to the plugin for lack of a grant",
                |source, _| Some(source.counts.refused_accesses as f64),
            ),
            counter("plugin_cpu", "CPU time used by the plugin, in seconds", |source, _| {
                Some(source.counts.cpu.as_secs_f64())
            })
            .seconds(),
            gauge("plugin_memory", "Memory allocated by the plugin, in bytes", |source, _| {
                Some(source.confinement.memory as f64)
            })
            .bytes(),
            gauge(
                "revision",
                "Current revision of the value; it increases across restarts",
                |source, _| Some(source.status.revision as f64),
            ),
            gauge("pinned", "1 if the source is pinned to a revision, else 0", |source, _| {
                Some(one_if(source.status.pinned.is_some()))
            }),
            gauge(
                "stale",
                "1 if the source has not confirmed its value within `stale-after`, else 0",
                |source, _| Some(one_if(source.state.stale.is_some())),
            ),
            gauge("failing", "1 if the last read of the source failed, else 0", |source, _| {
                Some(one_if(source.state.failing.is_some()))
            }),
            gauge(
                "value",
                "Size of the current value, in bytes; absent if the value is secret",
                |source, _| {
                    let value = source.state.value.as_ref().filter(|_| source.readable);
                    value.map(|value| value.content.len() as f64)
                },
            )
            .bytes(),
            gauge("value_age", "Seconds since the current value was published", |source, now| {
                source.state.value.as_ref().and(source.status.at).map(|at| since(at, now))
            })
            .seconds(),
            gauge(
                "confirmation_age",
                "Seconds since the source last confirmed its value",
                |source, now| source.status.last_success_at.map(|at| since(at, now)),
            )
            .seconds(),
        ]
    }

    /// Returns the failures of a source, for the counter [`FAILURES`].
    pub fn failures(source: &SourceCounts) -> impl Iterator<Item = Failures> {
        let counts = &source.counts;
        let by_kind = |role, failures: &[(&'static str, u64)]| {
            let by_kind = failures.iter().map(move |(kind, count)| (role, *kind, *count as f64));
            by_kind.collect::<Vec<_>>()
        };
        let reads = by_kind("read", &counts.read_failures);
        reads.into_iter().chain(by_kind("watch", &counts.watch_failures))
    }

    /// Returns the histograms of sources.
    pub fn times() -> [SourceTimes; 2] {
        [
            ("read_duration", "Duration of reads of the source, in seconds", |source| {
                &source.counts.reads
            }),
            (
                "reaction",
                "Time from the first sign of a change to the publication of the new value, in seconds",
                |source| &source.counts.reactions,
            ),
        ]
    }

    /// Returns the counters of sinks.
    pub fn of_sinks() -> [SinkNumber; 3] {
        [
            ("sink_deliveries", "Successful deliveries to the sink", |sink| sink.succeeded as f64),
            ("sink_failures", "Failed delivery attempts of the sink", |sink| sink.failed as f64),
            ("sink_retries", "Delivery attempts that were retries", |sink| sink.retried as f64),
        ]
    }
}

/// Returns 1 for `true`, 0 for `false`.
pub(crate) fn one_if(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

/// Returns the seconds from `at` to `now`; 0 if the clock was set back.
fn since(at: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(at).as_secs_f64().max(0.0)
}

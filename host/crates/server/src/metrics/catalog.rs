//! What there is to count and to measure, under which name.

use jiff::Timestamp;
use reloader_app::{SinkCounts, SourceCounts};
use reloader_source::metrics::Distribution;

/// All numbers, by what they are of.
pub struct Numbers;

/// A number of each source.
pub struct SourceNumber {
    /// Name of the metric.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Unit, if it has one.
    pub unit: Option<NumberUnit>,
    /// Whether it only goes up.
    pub is_counter: bool,
    /// Of which at this moment; some have none.
    pub read: fn(&SourceCounts, Timestamp) -> Option<f64>,
}

/// What a number is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberUnit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl NumberUnit {
    /// As OpenTelemetry has it.
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

/// In which role, of which kind, and how many.
pub type Failures = (&'static str, &'static str, f64);

/// What took its time: its name, what it is, and how it is distributed.
pub type SourceTimes = (&'static str, &'static str, fn(&SourceCounts) -> &Distribution);

/// A number of each sink, that only goes up: its name, what it is, and how much.
pub type SinkNumber = (&'static str, &'static str, fn(&SinkCounts) -> f64);

/// What the failures are, in words.
pub const FAILURES: (&str, &str) =
    ("failures", "How often the source could not be read, or watched, by the kind of failure");

impl Numbers {
    /// In which order they are shown.
    pub fn of_sources() -> [SourceNumber; 15] {
        [
            counter("changes", "Values that were published", |source, _| {
                Some(source.counts.changes as f64)
            }),
            counter(
                "removals",
                "How often it was published that there is no value any more",
                |source, _| Some(source.counts.removals as f64),
            ),
            counter("refused_values", "Values that were not let through", |source, _| {
                Some(source.counts.refused_values as f64)
            }),
            counter(
                "watches_opened",
                "How often a watch was opened: once, and again when it was lost",
                |source, _| Some(source.counts.watches as f64),
            ),
            counter(
                "quarantines",
                "How often what crashes all the time was left alone",
                |source, _| Some(source.counts.quarantines as f64),
            ),
            counter(
                "refused_accesses",
                "What the plugin was refused, since it is not granted",
                |source, _| Some(source.counts.refused_accesses as f64),
            ),
            counter("plugin_cpu", "What the plugin has had of a processor", |source, _| {
                Some(source.counts.cpu.as_secs_f64())
            })
            .seconds(),
            gauge("plugin_memory", "The memory that the plugin has taken", |source, _| {
                Some(source.confinement.memory as f64)
            })
            .bytes(),
            gauge("revision", "Counts the values, also across restarts", |source, _| {
                Some(source.status.revision as f64)
            }),
            gauge("pinned", "Whether the source is held at a value", |source, _| {
                Some(one_if(source.status.pinned.is_some()))
            }),
            gauge("stale", "Whether the value is older than its source promises", |source, _| {
                Some(one_if(source.state.stale.is_some()))
            }),
            gauge("failing", "Whether the source could not be read last", |source, _| {
                Some(one_if(source.state.failing.is_some()))
            }),
            gauge("value", "The size of the value, if it may be read", |source, _| {
                let value = source.state.value.as_ref().filter(|_| source.readable);
                value.map(|value| value.content.len() as f64)
            })
            .bytes(),
            gauge("value_age", "Since when the value is the present one", |source, now| {
                source.state.value.as_ref().and(source.status.at).map(|at| since(at, now))
            })
            .seconds(),
            gauge(
                "confirmation_age",
                "Since the source stood for the value last",
                |source, now| source.status.last_success_at.map(|at| since(at, now)),
            )
            .seconds(),
        ]
    }

    /// What failed of a source: [`FAILURES`].
    pub fn failures(source: &SourceCounts) -> impl Iterator<Item = Failures> {
        let counts = &source.counts;
        let by = |role, of: &[(&'static str, u64)]| {
            let by_kind = of.iter().map(move |(kind, count)| (role, *kind, *count as f64));
            by_kind.collect::<Vec<_>>()
        };
        by("read", &counts.read_failures).into_iter().chain(by("watch", &counts.watch_failures))
    }

    /// What took its time, for a source: how long, and how often.
    pub fn times() -> [SourceTimes; 2] {
        [
            ("read_duration", "How long it took to read the source", |source| &source.counts.reads),
            (
                "reaction",
                "From the first sign of a change until the new value was published",
                |source| &source.counts.reactions,
            ),
        ]
    }

    /// In which order they are shown.
    pub fn of_sinks() -> [SinkNumber; 3] {
        [
            ("sink_deliveries", "How often a sink has got its values", |sink| {
                sink.succeeded as f64
            }),
            ("sink_failures", "How often a try to deliver failed", |sink| sink.failed as f64),
            ("sink_retries", "How often the same values were tried again", |sink| {
                sink.retried as f64
            }),
        ]
    }
}

/// Whether it is so, as a number.
pub(crate) fn one_if(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// In seconds. Clocks may go back.
fn since(at: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(at).as_secs_f64().max(0.0)
}

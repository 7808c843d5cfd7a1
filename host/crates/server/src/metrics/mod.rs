//! What happens, in numbers, for those who collect them: Prometheus and its kin.

pub(crate) mod catalog;

use crate::{
    Shared,
    auth::Caller,
    http_metrics::Traffic,
    metrics::catalog::{FAILURES, NumberUnit, Numbers, SourceNumber, SourceTimes, one_if},
    problem::Problem,
};
use axum::{
    Extension, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelValue, MetricEncoder, NoLabelSet, prometheus_text, text,
    },
    metrics::MetricType,
    registry::{Registry, Unit},
};
use reloader_app::{SinkCounts, SourceCounts};
use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/metrics", get(metrics))
}

/// What happens, in numbers.
#[utoipa::path(get, path = "/metrics", tag = "metrics", responses(
    (status = 200, description = "In the format of OpenMetrics, or of Prometheus where the former is not asked \
        for; of the sources that the token is good for", content_type = "text/plain", body = String),
    (status = 401, description = "No token, or none that counts", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn metrics(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let is_open = accepted.is_some_and(|accepted| accepted.contains(OPEN_METRICS));
    let mut registry = Registry::with_prefix("reloader");
    registry.register_collector(Box::new(Scrape::of(&shared, &caller)));
    let mut page = String::new();
    let (written, media_type) = if is_open {
        (
            text::encode(&mut page, &registry),
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )
    } else {
        (prometheus_text::encode(&mut page, &registry), "text/plain; version=0.0.4; charset=utf-8")
    };
    if written.is_err() {
        let why = "the metrics could not be written";
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why).into_response();
    }
    let mut response = page.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

const OPEN_METRICS: &str = "application/openmetrics-text";

/// All of it at one moment.
#[derive(Debug)]
struct Scrape {
    now: Timestamp,
    sources: Vec<SourceCounts>,
    sinks: Vec<SinkCounts>,
    traffic: Traffic,
    /// Whether what concerns the whole host is told.
    is_whole: bool,
    readers: usize,
    connections: usize,
    is_config_refused: bool,
}

static START: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);

/// From here on the host runs.
pub(crate) fn start() {
    LazyLock::force(&START);
}

impl Scrape {
    fn of(shared: &Shared, caller: &Caller) -> Self {
        let handle = &shared.handle;
        let mut sources = handle.counts();
        sources.retain(|source| caller.sees(&source.status.name));
        let groups = handle.groups();
        let is_seen = |sink: &SinkCounts| {
            caller.sees_all()
                || caller.sees(&sink.of) && groups.iter().all(|group| group.name != sink.of)
        };
        let mut sinks = handle.sink_counts();
        sinks.retain(is_seen);
        Self {
            now: Timestamp::now(),
            sources,
            sinks,
            traffic: shared.traffic.clone(),
            is_whole: caller.sees_all(),
            readers: shared.board.readers(),
            connections: shared.traffic.connections(),
            is_config_refused: handle.config_trouble().is_some(),
        }
    }
}

/// In which states a source can be.
const STATES: [&str; 5] = ["current", "stale", "waiting", "removed", "ended"];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        for SourceNumber { name, help, unit, is_counter, read } in Numbers::of_sources() {
            let values = self.sources.iter().filter_map(|source| {
                Some(([("source", name_of(source))], read(source, self.now)?))
            });
            let kind = if is_counter { MetricType::Counter } else { MetricType::Gauge };
            family(encoder, (name, help), unit.map(unit_of).as_ref(), kind, values)?;
        }
        self.states(encoder)?;
        self.failures(encoder)?;
        for times in Numbers::times() {
            self.times(encoder, times)?;
        }
        self.deliveries(encoder)?;
        if self.is_whole { self.host(encoder) } else { Ok(()) }
    }
}

impl Scrape {
    /// One of all states is the present one.
    fn states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let states = self.sources.iter().flat_map(|source| {
            STATES.map(|state| {
                let labels = [("source", name_of(source)), ("state", state)];
                (labels, one_if(source.status.state == state))
            })
        });
        let help = "In which state the source is";
        family(encoder, ("source_state", help), None, MetricType::Gauge, states)
    }

    fn failures(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let failures = self.sources.iter().flat_map(|source| {
            Numbers::failures(source).map(|(role, kind, count)| {
                ([("source", name_of(source)), ("role", role), ("kind", kind)], count)
            })
        });
        family(encoder, FAILURES, None, MetricType::Counter, failures)
    }

    fn times(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, of): SourceTimes,
    ) -> fmt::Result {
        let mut encoder =
            encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for source in &self.sources {
            let times = of(source);
            let bound = |bound: &Option<Duration>| bound.map_or(f64::INFINITY, |b| b.as_secs_f64());
            let buckets = times.buckets.iter().map(|(until, count)| (bound(until), *count));
            let buckets: Vec<_> = buckets.collect();
            let labels = [("source", name_of(source))];
            let mut encoder = encoder.encode_family(&labels)?;
            let sum = times.sum.as_secs_f64();
            encoder.encode_histogram::<NoLabelSet>(sum, times.count(), &buckets, None)?;
        }
        Ok(())
    }

    fn deliveries(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |sink: &'_ SinkCounts| [("of", sink.of.clone()), ("sink", sink.name.clone())];
        for (name, help, read) in Numbers::of_sinks() {
            let values = self.sinks.iter().map(|sink| (labels(sink), read(sink)));
            family(encoder, (name, help), None, MetricType::Counter, values)?;
        }
        let failing = self.sinks.iter().map(|sink| (labels(sink), one_if(sink.is_failing)));
        let help = "Whether a sink has not got the newest values, and should have";
        family(encoder, ("sink_failing", help), None, MetricType::Gauge, failing)
    }

    /// What concerns none of the sources alone.
    fn host(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut info =
            encoder.encode_descriptor("build", "Which host this is", None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let one = |value: f64| [([("", ""); 0], value)];
        let start = START.as_millisecond() as f64 / 1e3;
        let gauges = [
            ("start_time", "When the host was started, since 1970", Some(Unit::Seconds), start),
            (
                "config_refused",
                "Whether the configuration file cannot be used as it is now",
                None,
                one_if(self.is_config_refused),
            ),
            ("event_readers", "Who reads events at this moment", None, self.readers as f64),
            ("http_connections", "Connections at this moment", None, self.connections as f64),
        ];
        for (name, help, unit, value) in gauges {
            family(encoder, (name, help), unit.as_ref(), MetricType::Gauge, one(value))?;
        }
        let (memory, cpu) = process();
        if let Some(memory) = memory {
            let help = "The memory that the host has at this moment";
            let unit = Some(&Unit::Bytes);
            family(encoder, ("resident_memory", help), unit, MetricType::Gauge, one(memory))?;
        }
        if let Some(cpu) = cpu {
            let help = "What the host has had of all processors";
            let unit = Some(&Unit::Seconds);
            family(encoder, ("cpu", help), unit, MetricType::Counter, one(cpu))?;
        }
        let requests = self.traffic.requests();
        let requests = requests.iter().map(|(class, count)| ([("status", *class)], *count as f64));
        let help = "Requests that were answered, by the first digit of the status";
        family(encoder, ("http_requests", help), None, MetricType::Counter, requests)?;
        let overflows = reloader_fs_watch::overflows() as f64;
        let help =
            "How often more files changed than the kernel could tell, so that all were looked at";
        family(encoder, ("file_event_overflows", help), None, MetricType::Counter, one(overflows))
    }
}

fn unit_of(unit: NumberUnit) -> Unit {
    match unit {
        NumberUnit::Seconds => Unit::Seconds,
        NumberUnit::Bytes => Unit::Bytes,
    }
}

fn name_of(source: &SourceCounts) -> &str {
    &source.status.name
}

fn family<L: EncodeLabelValue, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    unit: Option<&Unit>,
    kind: MetricType,
    values: impl IntoIterator<Item = ([(&'static str, L); N], f64)>,
) -> fmt::Result {
    let mut encoder = encoder.encode_descriptor(name, help, unit, kind)?;
    let write = |mut encoder: MetricEncoder<'_>, value: f64| match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
        _ => encoder.encode_gauge(&value),
    };
    for (labels, value) in values {
        write(encoder.encode_family(&labels)?, value)?;
    }
    Ok(())
}

/// The memory that this process has, in bytes, and what it has had of all processors, in seconds.
#[cfg(target_os = "linux")]
fn process() -> (Option<f64>, Option<f64>) {
    use rustix::time::{ClockId, clock_gettime};
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let memory = pages.map(|pages| (pages * rustix::param::page_size() as u64) as f64);
    let time = clock_gettime(ClockId::ProcessCPUTime);
    (memory, Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9))
}

#[cfg(not(target_os = "linux"))]
fn process() -> (Option<f64>, Option<f64>) {
    (None, None)
}

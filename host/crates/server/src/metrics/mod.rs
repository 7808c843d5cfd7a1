//! Metrics endpoint (`/metrics`) in the OpenMetrics and Prometheus text formats.

pub(crate) mod catalog;

use crate::{
    Shared,
    auth::Caller,
    http_metrics::HttpMetrics,
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

/// Metrics of the host, its sources and its sinks.
#[utoipa::path(get, path = "/metrics", tag = "metrics", responses(
    (status = 200, description = "Metrics of the sources that the token may access, in the OpenMetrics text format \
        if `Accept` contains `application/openmetrics-text`, else in the Prometheus text format. Metrics of the host \
        itself are included if the token may access all sources", content_type = "text/plain", body = String),
    (status = 401, description = "Missing or invalid token", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn metrics(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let is_openmetrics = accepted.is_some_and(|accepted| accepted.contains(OPENMETRICS));
    let mut registry = Registry::with_prefix("reloader");
    registry.register_collector(Box::new(Scrape::new(&shared, &caller)));
    let mut body = String::new();
    let (encoded, media_type) = if is_openmetrics {
        (
            text::encode(&mut body, &registry),
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )
    } else {
        (prometheus_text::encode(&mut body, &registry), "text/plain; version=0.0.4; charset=utf-8")
    };
    if encoded.is_err() {
        let detail = "cannot encode the metrics";
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response();
    }
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Media type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text";

/// All metrics at one point in time, as far as the caller may access them.
#[derive(Debug)]
struct Scrape {
    now: Timestamp,
    sources: Vec<SourceCounts>,
    sinks: Vec<SinkCounts>,
    http_metrics: HttpMetrics,
    /// `true` if the metrics of the host itself are included.
    includes_host: bool,
    event_streams: usize,
    open_connections: usize,
    is_config_rejected: bool,
}

static START_TIME: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);

/// Records the present time as the start time of the host.
pub(crate) fn record_start_time() {
    LazyLock::force(&START_TIME);
}

impl Scrape {
    fn new(shared: &Shared, caller: &Caller) -> Self {
        let handle = &shared.handle;
        let mut sources = handle.counts();
        sources.retain(|source| caller.sees(&source.status.name));
        let groups = handle.groups();
        let is_visible = |sink: &SinkCounts| {
            caller.sees_all()
                || caller.sees(&sink.of) && groups.iter().all(|group| group.name != sink.of)
        };
        let mut sinks = handle.sink_counts();
        sinks.retain(is_visible);
        Self {
            now: Timestamp::now(),
            sources,
            sinks,
            http_metrics: shared.http_metrics.clone(),
            includes_host: caller.sees_all(),
            event_streams: shared.events.subscribers(),
            open_connections: shared.http_metrics.open_connections(),
            is_config_rejected: handle.config_trouble().is_some(),
        }
    }
}

/// States of a source.
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
        if self.includes_host { self.host(encoder) } else { Ok(()) }
    }
}

impl Scrape {
    /// Encodes the state set of each source: 1 for its current state, 0 for the others.
    fn states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let states = self.sources.iter().flat_map(|source| {
            STATES.map(|state| {
                let labels = [("source", name_of(source)), ("state", state)];
                (labels, one_if(source.status.state == state))
            })
        });
        let help = "State of the source: 1 for its current state, 0 for the others";
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
        let help = "1 if the last delivery to the sink failed, else 0";
        family(encoder, ("sink_failing", help), None, MetricType::Gauge, failing)
    }

    /// Encodes the metrics of the host itself.
    fn host(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut info =
            encoder.encode_descriptor("build", "Build information", None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let unlabelled = |value: f64| [([("", ""); 0], value)];
        let start = START_TIME.as_millisecond() as f64 / 1e3;
        let connections = self.open_connections as f64;
        let gauges = [
            (
                "start_time",
                "Start time of the host, in seconds since the Unix epoch",
                Some(Unit::Seconds),
                start,
            ),
            (
                "config_refused",
                "1 if the configuration file is invalid and the previous configuration is in effect, else 0",
                None,
                one_if(self.is_config_rejected),
            ),
            ("event_readers", "Open event streams", None, self.event_streams as f64),
            ("http_connections", "Open connections to the API", None, connections),
        ];
        for (name, help, unit, value) in gauges {
            family(encoder, (name, help), unit.as_ref(), MetricType::Gauge, unlabelled(value))?;
        }
        let (memory, cpu) = process();
        if let Some(memory) = memory {
            let help = "Resident memory of the host, in bytes";
            let unit = Some(&Unit::Bytes);
            family(
                encoder,
                ("resident_memory", help),
                unit,
                MetricType::Gauge,
                unlabelled(memory),
            )?;
        }
        if let Some(cpu) = cpu {
            let help = "CPU time used by the host, in seconds";
            let unit = Some(&Unit::Seconds);
            family(encoder, ("cpu", help), unit, MetricType::Counter, unlabelled(cpu))?;
        }
        let requests = self.http_metrics.requests();
        let requests = requests.iter().map(|(class, count)| ([("status", *class)], *count as f64));
        let help = "HTTP requests answered, by status class";
        family(encoder, ("http_requests", help), None, MetricType::Counter, requests)?;
        let overflows = reloader_fs_watch::overflows() as f64;
        let help = "Overflows of the inotify event queue; each caused a rescan of all files";
        family(
            encoder,
            ("file_event_overflows", help),
            None,
            MetricType::Counter,
            unlabelled(overflows),
        )
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

/// Encodes one metric for all its label sets.
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

/// Returns the resident memory of this process, in bytes, and its CPU time, in seconds.
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

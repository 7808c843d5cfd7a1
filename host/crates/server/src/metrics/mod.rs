//! Metrics endpoint (`/metrics`) in the OpenMetrics and Prometheus text formats.

pub mod catalog;

use crate::{
    auth::{Caller, VisibleSources},
    coalesced_response_builds::{Built, Document, ResponseKey},
    http_metrics::HttpMetrics,
    metrics::catalog::{Metric, MetricKind, MetricUnit, SourceHistogram, one_if},
    openapi_responses::Unauthorized,
    problem::Problem,
    shared_state::SharedState,
};
use axum::{Extension, Router, extract::State, response::Response, routing::get};
use http::{HeaderMap, StatusCode, header};
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
    collections::HashSet,
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

pub(crate) fn routes() -> Router<Arc<SharedState>> {
    Router::new().route("/metrics", get(metrics))
}

/// Metrics of the host, its sources and its sinks.
#[utoipa::path(get, path = "/metrics", tag = "metrics", responses(
    (status = 200, description = "Metrics of the sources that the token may access, in the OpenMetrics text format \
        if `Accept` contains `application/openmetrics-text`, else in the Prometheus text format. Metrics of the host \
        itself are included if the token may access all sources", content_type = "text/plain", body = String),
    Unauthorized,
))]
pub(crate) async fn metrics(
    State(shared): State<Arc<SharedState>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let is_openmetrics = accepted.is_some_and(|accepted| accepted.contains(OPENMETRICS));
    let document = Document::Metrics { is_openmetrics };
    let key = ResponseKey { document, visible: caller.visible().clone() };
    let this = Arc::clone(&shared);
    let build = move || encode_all(Scrape::new(&this, caller.visible()), is_openmetrics);
    shared.responses.get(key, build).await
}

/// Encodes all metrics in the OpenMetrics or the Prometheus text format.
fn encode_all(scrape: Scrape, is_openmetrics: bool) -> Result<Built, Problem> {
    let mut registry = Registry::with_prefix("reloader");
    registry.register_collector(Box::new(scrape));
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
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
    }
    Ok(Built { status: StatusCode::OK, media_type, headers: Vec::new(), body: body.into_bytes() })
}

/// Media type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text";

/// All metrics that the caller may access, at one point in time.
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
    is_state_failing: bool,
}

static START_TIME: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);

/// Records the present time as the start time of the host.
pub(crate) fn record_start_time() {
    LazyLock::force(&START_TIME);
}

impl Scrape {
    fn new(shared: &SharedState, visible: &VisibleSources) -> Self {
        let handle = &shared.handle;
        let mut sources = handle.counts();
        sources.retain(|source| visible.contains(&source.status.name));
        let groups: HashSet<_> = handle.groups().into_iter().map(|group| group.name).collect();
        let is_visible = |sink: &SinkCounts| {
            visible.contains_all() || visible.contains(&sink.owner) && !groups.contains(&sink.owner)
        };
        let mut sinks = handle.sink_counts();
        sinks.retain(is_visible);
        Self {
            now: Timestamp::now(),
            sources,
            sinks,
            http_metrics: shared.http_metrics.clone(),
            includes_host: visible.contains_all(),
            event_streams: shared.events.subscribers(),
            open_connections: shared.http_metrics.open_connections(),
            is_config_rejected: handle.config_error().is_some(),
            is_state_failing: handle.state_error().is_some(),
        }
    }
}

/// All states of a source, as values of the metric label `state`.
const STATES: [&str; 5] = ["current", "stale", "waiting", "removed", "ended"];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        for (metric, read) in catalog::SOURCE_METRICS {
            let values = self.sources.iter().filter_map(|source| {
                Some(([("source", name_of(source))], read(source, self.now)?))
            });
            encode(encoder, &metric, values)?;
        }
        self.encode_states(encoder)?;
        self.encode_failures(encoder)?;
        for histogram in catalog::SOURCE_HISTOGRAMS {
            self.encode_histogram(encoder, histogram)?;
        }
        self.encode_sinks(encoder)?;
        if self.includes_host { self.encode_host(encoder) } else { Ok(()) }
    }
}

impl Scrape {
    /// Encodes the state set of each source: 1 for its current state, 0 for the others.
    fn encode_states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let states = self.sources.iter().flat_map(|source| {
            STATES.map(|state| {
                let labels = [("source", name_of(source)), ("state", state)];
                (labels, one_if(source.status.state == state))
            })
        });
        encode(encoder, &catalog::SOURCE_STATE, states)
    }

    fn encode_failures(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let failures = self.sources.iter().flat_map(|source| {
            catalog::failures(source).map(|(role, kind, count)| {
                ([("source", name_of(source)), ("role", role), ("kind", kind)], count)
            })
        });
        encode(encoder, &catalog::FAILURES, failures)
    }

    fn encode_histogram(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (metric, read): SourceHistogram,
    ) -> fmt::Result {
        let mut encoder = describe(encoder, &metric)?;
        for source in &self.sources {
            let times = read(source);
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

    fn encode_sinks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels =
            |sink: &'_ SinkCounts| [("owner", sink.owner.clone()), ("sink", sink.name.clone())];
        for (metric, read) in catalog::SINK_COUNTERS {
            let values = self.sinks.iter().map(|sink| (labels(sink), read(sink)));
            encode(encoder, &metric, values)?;
        }
        let failing = self.sinks.iter().map(|sink| (labels(sink), one_if(sink.is_failing)));
        encode(encoder, &catalog::SINK_FAILING, failing)
    }

    /// Encodes the metrics of the host itself.
    fn encode_host(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        describe(encoder, &catalog::BUILD)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let (memory, cpu) = memory_and_cpu_time();
        let numbers = [
            (catalog::START_TIME, Some(START_TIME.as_millisecond() as f64 / 1e3)),
            (catalog::CONFIG_REJECTED, Some(one_if(self.is_config_rejected))),
            (catalog::STATE_FAILING, Some(one_if(self.is_state_failing))),
            (catalog::EVENT_STREAMS, Some(self.event_streams as f64)),
            (catalog::HTTP_CONNECTIONS, Some(self.open_connections as f64)),
            (catalog::RESIDENT_MEMORY, memory),
            (catalog::CPU, cpu),
            (catalog::FILE_EVENT_OVERFLOWS, Some(reloader_fs_watch::overflows() as f64)),
        ];
        for (metric, number) in numbers {
            if let Some(number) = number {
                encode(encoder, &metric, [([("", ""); 0], number)])?;
            }
        }
        let requests = self.http_metrics.requests();
        let requests = requests.iter().map(|(class, count)| ([("status", *class)], *count as f64));
        encode(encoder, &catalog::HTTP_REQUESTS, requests)
    }
}

fn name_of(source: &SourceCounts) -> &str {
    &source.status.name
}

/// Encodes the name, help text, unit and kind of a metric.
fn describe<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    metric: &Metric,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    let unit = metric.unit.map(|unit| match unit {
        MetricUnit::Seconds => &Unit::Seconds,
        MetricUnit::Bytes => &Unit::Bytes,
    });
    let kind = match metric.kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
        MetricKind::Info => MetricType::Info,
    };
    encoder.encode_descriptor(metric.name, metric.help, unit, kind)
}

/// Encodes a counter or gauge for all its label sets.
fn encode<L: EncodeLabelValue, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    values: impl IntoIterator<Item = ([(&'static str, L); N], f64)>,
) -> fmt::Result {
    let mut encoder = describe(encoder, metric)?;
    for (labels, value) in values {
        let mut encoder = encoder.encode_family(&labels)?;
        match metric.kind {
            MetricKind::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
            _ => encoder.encode_gauge(&value)?,
        }
    }
    Ok(())
}

/// Returns the resident memory of this process, in bytes, and its CPU time, in seconds.
#[cfg(target_os = "linux")]
fn memory_and_cpu_time() -> (Option<f64>, Option<f64>) {
    use rustix::time::{ClockId, clock_gettime};
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let memory = pages.map(|pages| (pages * rustix::param::page_size() as u64) as f64);
    let time = clock_gettime(ClockId::ProcessCPUTime);
    (memory, Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9))
}

#[cfg(not(target_os = "linux"))]
fn memory_and_cpu_time() -> (Option<f64>, Option<f64>) {
    (None, None)
}

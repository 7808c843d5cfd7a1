//! OpenTelemetry export: traces and metrics by OTLP over HTTP, if the environment names a collector.
//!
//! The standard variables apply: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_METRIC_EXPORT_INTERVAL` and so on.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use opentelemetry::{
    Key, KeyValue,
    metrics::{AsyncInstrument, Meter, MeterProvider},
    trace::TracerProvider,
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    metrics::{Instrument, SdkMeterProvider, Stream},
    trace::SdkTracerProvider,
};
use reloader_app::{Handle, SourceCounts};
use reloader_net::host_client;
use reloader_server::metrics::catalog::{self, MetricKind};
use reloader_source::spans;
use reloader_util::sync::Mutex;
use std::{
    env, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use tracing::{Subscriber, info, warn};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    registry::LookupSpan,
};
use url::Url;

/// Time limit of one export request.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Upper bound of a response body of the collector, in bytes.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// Returns `true` if the environment names a collector for a signal (`TRACES` or `METRICS`).
fn is_enabled(signal: &str) -> bool {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_off = env::var("OTEL_SDK_DISABLED").is_ok_and(|off| off.eq_ignore_ascii_case("true"));
    let signal_endpoint = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    !is_off && (is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set(&signal_endpoint))
}

/// Exporter of traces. Dropping it exports the remaining spans.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts the exporter; returns `None` if the environment names no collector for traces.
    ///
    /// # Errors
    ///
    /// Returns an error if the variables of the environment are invalid.
    pub(crate) fn start() -> Result<Option<Self>, String> {
        if !is_enabled("TRACES") {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Sender::new().map_err(|error| error.to_string())?)
            .build()
            .map_err(|error| error.to_string())?;
        let provider = SdkTracerProvider::builder().with_resource(resource());
        Ok(Some(Self(provider.with_batch_exporter(exporter).build())))
    }

    /// Returns the tracing layer that exports the spans of the host.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let spans = Targets::new().with_target(spans::TARGET, LevelFilter::TRACE);
        let tracer = self.0.tracer("reloader-host");
        tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_filter(spans)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // Exports the remaining spans. A failure is ignored, since the program exits.
        let _ = self.0.shutdown();
    }
}

/// Exporter of metrics. Dropping it exports the last metrics.
pub(crate) struct Metrics(SdkMeterProvider);

impl Metrics {
    /// Starts the exporter; returns `None` if the environment names no collector for metrics, or is invalid.
    pub(crate) fn start(handle: &Handle) -> Option<Self> {
        if !is_enabled("METRICS") {
            return None;
        }
        match provider(handle) {
            Ok(provider) => {
                register_instruments(&provider.meter("reloader-host"), handle);
                Some(Self(provider))
            }
            Err(error) => {
                warn!(%error, "OTLP metric export disabled");
                None
            }
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        let _ = self.0.shutdown();
    }
}

/// Maximum number of failure counters of a source: 2 roles (read, watch) with 5 kinds of failure each.
const MAX_FAILURE_SERIES_PER_SOURCE: usize = 10;
/// Ratio of the cardinality limit to the number of sources or sinks at the start. A reload can add more of them.
const CARDINALITY_HEADROOM: usize = 4;
/// Lower bound of the cardinality limit: the default of OpenTelemetry.
const MIN_CARDINALITY_LIMIT: usize = 2_000;

fn provider(handle: &Handle) -> Result<SdkMeterProvider, String> {
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Sender::new().map_err(|error| error.to_string())?)
        .build()
        .map_err(|error| error.to_string())?;
    // The SDK aggregates all series above the cardinality limit into one series.
    let count = handle.sources().len().max(handle.sink_counts().len());
    let limit = (count * CARDINALITY_HEADROOM).max(MIN_CARDINALITY_LIMIT);
    let view = move |instrument: &Instrument| {
        let is_failures = instrument.name() == format!("reloader.{}", catalog::FAILURES.name);
        let limit = if is_failures { limit * MAX_FAILURE_SERIES_PER_SOURCE } else { limit };
        Stream::builder().with_cardinality_limit(limit).build().ok()
    };
    let provider = SdkMeterProvider::builder().with_resource(resource()).with_view(view);
    Ok(provider.with_periodic_exporter(exporter).build())
}

/// Returns the resource attributes. The environment sets the service name by `OTEL_SERVICE_NAME` or
/// `OTEL_RESOURCE_ATTRIBUTES`; the default is `reloader-host`.
fn resource() -> Resource {
    let name = Resource::builder().build().get(&Key::new("service.name"));
    let is_known = name.is_some_and(|name| {
        let name = name.as_str().into_owned();
        !name.is_empty() && !name.starts_with("unknown_service")
    });
    let builder = Resource::builder();
    let builder = if is_known { builder } else { builder.with_service_name("reloader-host") };
    builder.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

/// Registers the metrics of sources and sinks that `/metrics` also exports. A histogram is exported as two counters:
/// `….count` and `….sum`.
fn register_instruments(meter: &Meter, handle: &Handle) {
    let sources = Arc::new(SnapshotCache { handle: handle.clone(), cached: Mutex::default() });
    let sources = &sources;
    for (metric, read) in catalog::SOURCE_METRICS {
        let unit = metric.unit.map_or("1", |unit| unit.ucum());
        let observe = observe_sources(sources, move |source, observer| {
            if let Some(value) = read(source, Timestamp::now()) {
                observer.observe(value, &[name_of(source)]);
            }
        });
        let name = format!("reloader.{}", metric.name);
        if metric.kind == MetricKind::Counter {
            let counter = meter.f64_observable_counter(name).with_description(metric.help);
            counter.with_unit(unit).with_callback(observe).build();
        } else {
            let gauge = meter.f64_observable_gauge(name).with_description(metric.help);
            gauge.with_unit(unit).with_callback(observe).build();
        }
    }
    let observe = observe_sources(sources, |source, observer| {
        for (role, kind, count) in catalog::failures(source) {
            let labels =
                [name_of(source), KeyValue::new("role", role), KeyValue::new("kind", kind)];
            observer.observe(count, &labels);
        }
    });
    let counter = meter.f64_observable_counter(format!("reloader.{}", catalog::FAILURES.name));
    counter.with_description(catalog::FAILURES.help).with_callback(observe).build();
    for (metric, read) in catalog::SOURCE_HISTOGRAMS {
        let (name, help) = (metric.name, metric.help);
        let observe = observe_sources(sources, move |source, observer| {
            observer.observe(read(source).count() as f64, &[name_of(source)]);
        });
        let counter = meter.f64_observable_counter(format!("reloader.{name}.count"));
        counter.with_description(help).with_callback(observe).build();
        let observe = observe_sources(sources, move |source, observer| {
            observer.observe(read(source).sum.as_secs_f64(), &[name_of(source)]);
        });
        let counter = meter.f64_observable_counter(format!("reloader.{name}.sum"));
        counter.with_description(help).with_unit("s").with_callback(observe).build();
    }
    for (metric, read) in catalog::SINK_COUNTERS {
        let handle = handle.clone();
        let counter = meter.f64_observable_counter(format!("reloader.{}", metric.name));
        let observe = move |observer: &dyn AsyncInstrument<f64>| {
            for sink in handle.sink_counts() {
                let value = read(&sink);
                let labels = [KeyValue::new("owner", sink.owner), KeyValue::new("sink", sink.name)];
                observer.observe(value, &labels);
            }
        };
        counter.with_description(metric.help).with_callback(observe).build();
    }
}

/// Returns a callback that calls `each` for each source.
fn observe_sources(
    sources: &Arc<SnapshotCache>,
    each: impl Fn(&SourceCounts, &dyn AsyncInstrument<f64>) + Send + Sync + 'static,
) -> impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static {
    let sources = Arc::clone(sources);
    move |observer| sources.read().iter().for_each(|source| each(source, observer))
}

/// Cache of the counters of all sources. The callbacks of one export run in sequence and share one snapshot.
struct SnapshotCache {
    handle: Handle,
    cached: Mutex<Option<(Instant, Arc<Vec<SourceCounts>>)>>,
}

/// Maximum age of the cached counters. The callbacks of one export run within this time.
const SNAPSHOT_MAX_AGE: Duration = Duration::from_millis(20);

impl SnapshotCache {
    fn read(&self) -> Arc<Vec<SourceCounts>> {
        let mut cached = self.cached.lock();
        let is_fresh = |(at, _): &&(Instant, _)| at.elapsed() < SNAPSHOT_MAX_AGE;
        if let Some((_, sources)) = cached.as_ref().filter(is_fresh) {
            return Arc::clone(sources);
        }
        let sources = Arc::new(self.handle.counts());
        *cached = Some((Instant::now(), Arc::clone(&sources)));
        sources
    }
}

fn name_of(source: &SourceCounts) -> KeyValue {
    KeyValue::new("source", source.status.name.clone())
}

/// HTTP client of the exporters, on top of the host's own client. The exporters call it on their own threads, so it
/// may block.
#[derive(Debug)]
struct Sender {
    /// Runtime of the requests; `None` only while the sender is dropped.
    runtime: Option<Runtime>,
    ca: Option<PathBuf>,
    /// `true` if the last export failed. Only the first of consecutive failures is logged.
    has_failed: AtomicBool,
}

/// Shuts the runtime down without waiting, since a runtime must not be dropped in an async context.
impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Sender {
    fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let ca = env::var_os("OTEL_EXPORTER_OTLP_CERTIFICATE").map(Into::into);
        Ok(Self { runtime: Some(runtime), ca, has_failed: AtomicBool::new(false) })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let url = Url::parse(&request.uri().to_string()).map_err(|error| error.to_string())?;
        let tls = match url.scheme() {
            "https" => Some(host_client::client_config(self.ca.as_deref(), None)?),
            _ => None,
        };
        let stream = host_client::connect(&url, tls).await?;
        let (mut parts, body) = request.into_parts();
        parts.uri = parts
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .parse()
            .map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let request = Request::from_parts(parts, Full::new(body));
        host_client::exchange(stream, &host_client::authority(&url), request, async |response| {
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(Response::from_parts(parts, body))
        })
        .await
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let url = request.uri().to_string();
        let runtime = self.runtime.as_ref().ok_or("the exporter is shut down")?;
        let response =
            runtime.block_on(async { timeout(EXPORT_TIMEOUT, self.exchange(request)).await });
        let response = response.unwrap_or_else(|_| {
            Err(format!("the collector did not respond within {EXPORT_TIMEOUT:?}"))
        });
        let error = match &response {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector returned {}", response.status())),
            Err(error) => Some(error.clone()),
        };
        let had_failed = self.has_failed.swap(error.is_some(), Relaxed);
        match error {
            Some(error) if !had_failed => warn!(%url, %error, "OTLP export failed"),
            None if had_failed => info!(%url, "OTLP export recovered"),
            _ => {}
        }
        Ok(response?)
    }
}

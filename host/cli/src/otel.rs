//! Traces and metrics for a collector of OpenTelemetry, by OTLP over HTTP, where the environment names one.
//!
//! The variables are those that every program with OpenTelemetry knows: `OTEL_EXPORTER_OTLP_ENDPOINT`,
//! `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_METRIC_EXPORT_INTERVAL` and so on.

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
use reloader_server::{FAILURES, Numbers, SourceNumber};
use reloader_source::telemetry;
use std::{
    env, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
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

/// What is sent is given up after so long.
const SEND: Duration = Duration::from_secs(10);
/// A collector has no more to say, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Whether the environment names a collector, for this kind of signal.
fn is_wanted(signal: &str) -> bool {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_off = env::var("OTEL_SDK_DISABLED").is_ok_and(|off| off.eq_ignore_ascii_case("true"));
    let of_signal = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    !is_off && (is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set(&of_signal))
}

/// Sends what takes time, until it is dropped.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Where the environment names a collector.
    ///
    /// # Errors
    ///
    /// What is wrong with how it does.
    pub(crate) fn start() -> Result<Option<Self>, String> {
        if !is_wanted("TRACES") {
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

    /// What takes time, on its way to the collector.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let spans = Targets::new().with_target(telemetry::TARGET, LevelFilter::TRACE);
        let tracer = self.0.tracer("reloader-host");
        tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_filter(spans)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // What is left is sent, as far as somebody takes it.
        let _ = self.0.shutdown();
    }
}

/// Sends what is counted, until it is dropped.
pub(crate) struct Metrics(SdkMeterProvider);

impl Metrics {
    /// Of a running configuration, where the environment names a collector.
    pub(crate) fn start(handle: &Handle) -> Option<Self> {
        if !is_wanted("METRICS") {
            return None;
        }
        match provider(handle) {
            Ok(provider) => {
                measure(&provider.meter("reloader-host"), handle);
                Some(Self(provider))
            }
            Err(why) => {
                warn!("metrics are not sent by OTLP: {why}");
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

/// So many of a source are told apart: in both roles, by kind.
const FAILURES_OF_A_SOURCE: usize = 10;
/// There may be more of them in time.
const GROWTH: usize = 4;
/// As it is where nothing is said.
const SERIES: usize = 2_000;

fn provider(handle: &Handle) -> Result<SdkMeterProvider, String> {
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Sender::new().map_err(|error| error.to_string())?)
        .build()
        .map_err(|error| error.to_string())?;
    // What is above the limit is lumped together; room for all of it is made at once.
    let series = (handle.sources().len().max(handle.sink_counts().len()) * GROWTH).max(SERIES);
    let view = move |instrument: &Instrument| {
        let is_many = instrument.name() == format!("reloader.{}", FAILURES.0);
        let limit = if is_many { series * FAILURES_OF_A_SOURCE } else { series };
        Stream::builder().with_cardinality_limit(limit).build().ok()
    };
    let provider = SdkMeterProvider::builder().with_resource(resource()).with_view(view);
    Ok(provider.with_periodic_exporter(exporter).build())
}

fn resource() -> Resource {
    // As the environment has it, in either of two variables.
    let name = Resource::builder().build().get(&Key::new("service.name"));
    let is_known = name.is_some_and(|name| {
        let name = name.as_str().into_owned();
        !name.is_empty() && !name.starts_with("unknown_service")
    });
    let builder = Resource::builder();
    let builder = if is_known { builder } else { builder.with_service_name("reloader-host") };
    builder.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

/// The numbers that `/metrics` has, too. Of what took its time, how often and how long in all.
fn measure(meter: &Meter, handle: &Handle) {
    let sources = Arc::new(Snapshot { handle: handle.clone(), taken: Mutex::default() });
    let sources = &sources;
    for SourceNumber { name, help, unit, is_counter, read } in Numbers::of_sources() {
        let unit = unit.map_or("1", |unit| unit.ucum());
        let observe = of_sources(sources, move |source, observer| {
            if let Some(value) = read(source, Timestamp::now()) {
                observer.observe(value, &[name_of(source)]);
            }
        });
        let name = format!("reloader.{name}");
        if is_counter {
            let counter = meter.f64_observable_counter(name).with_description(help);
            counter.with_unit(unit).with_callback(observe).build();
        } else {
            let gauge = meter.f64_observable_gauge(name).with_description(help);
            gauge.with_unit(unit).with_callback(observe).build();
        }
    }
    let (name, help) = FAILURES;
    let observe = of_sources(sources, |source, observer| {
        for (role, kind, count) in Numbers::failures(source) {
            let labels =
                [name_of(source), KeyValue::new("role", role), KeyValue::new("kind", kind)];
            observer.observe(count, &labels);
        }
    });
    let counter = meter.f64_observable_counter(format!("reloader.{name}"));
    counter.with_description(help).with_callback(observe).build();
    for (name, help, of) in Numbers::times() {
        let observe = of_sources(sources, move |source, observer| {
            observer.observe(of(source).count() as f64, &[name_of(source)]);
        });
        let counter = meter.f64_observable_counter(format!("reloader.{name}.count"));
        counter.with_description(help).with_callback(observe).build();
        let observe = of_sources(sources, move |source, observer| {
            observer.observe(of(source).sum.as_secs_f64(), &[name_of(source)]);
        });
        let counter = meter.f64_observable_counter(format!("reloader.{name}.sum"));
        counter.with_description(help).with_unit("s").with_callback(observe).build();
    }
    for (name, help, read) in Numbers::of_sinks() {
        let handle = handle.clone();
        let counter = meter.f64_observable_counter(format!("reloader.{name}"));
        let observe = move |observer: &dyn AsyncInstrument<f64>| {
            for sink in handle.sink_counts() {
                let value = read(&sink);
                let labels = [KeyValue::new("of", sink.of), KeyValue::new("sink", sink.name)];
                observer.observe(value, &labels);
            }
        };
        counter.with_description(help).with_callback(observe).build();
    }
}

/// Observes all sources, one by one.
fn of_sources(
    sources: &Arc<Snapshot>,
    each: impl Fn(&SourceCounts, &dyn AsyncInstrument<f64>) + Send + Sync + 'static,
) -> impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static {
    let sources = Arc::clone(sources);
    move |observer| sources.read().iter().for_each(|source| each(source, observer))
}

/// All sources at one moment, for all that is measured of them.
struct Snapshot {
    handle: Handle,
    taken: Mutex<Option<(Instant, Arc<Vec<SourceCounts>>)>>,
}

/// What is measured within so long is of one moment.
const MOMENT: Duration = Duration::from_millis(20);

impl Snapshot {
    fn read(&self) -> Arc<Vec<SourceCounts>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sources)) = taken.as_ref().filter(|(at, _)| at.elapsed() < MOMENT) {
            return Arc::clone(sources);
        }
        let sources = Arc::new(self.handle.counts());
        *taken = Some((Instant::now(), Arc::clone(&sources)));
        sources
    }
}

fn name_of(source: &SourceCounts) -> KeyValue {
    KeyValue::new("source", source.status.name.clone())
}

/// Sends over the host's own connections. What sends has a thread of its own, and may wait.
#[derive(Debug)]
struct Sender {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    ca: Option<PathBuf>,
    /// Whether the last try came to nothing, which has been said.
    has_failed: AtomicBool,
}

/// Also where others must not be waited for.
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
            "https" => Some(host_client::tls(self.ca.as_deref(), None)?),
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
        host_client::exchange(stream, &host_client::authority(&url), request, async |answer| {
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(Response::from_parts(parts, body))
        })
        .await
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let address = request.uri().to_string();
        let runtime = self.runtime.as_ref().ok_or("it has ended")?;
        let sent = runtime.block_on(async { timeout(SEND, self.exchange(request)).await });
        let sent = sent.unwrap_or_else(|_| Err(format!("there was no answer within {SEND:?}")));
        let why = match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(why) => Some(why.clone()),
        };
        let had_failed = self.has_failed.swap(why.is_some(), Relaxed);
        match why {
            Some(why) if !had_failed => {
                warn!("the collector of OpenTelemetry at `{address}` gets nothing: {why}");
            }
            None if had_failed => info!("the collector at `{address}` gets what there is again"),
            _ => {}
        }
        Ok(sent?)
    }
}

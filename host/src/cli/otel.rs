//! Traces and metrics for a collector of OpenTelemetry, by OTLP over HTTP, where the environment names one.
//!
//! The variables are those that every program with OpenTelemetry knows: `OTEL_EXPORTER_OTLP_ENDPOINT`,
//! `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_METRIC_EXPORT_INTERVAL` and so on.

use crate::{
    app::{Handle, SourceCounts},
    outgoing,
    serve::{FAILURES, Numbers, SourceNumber},
    spans,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter, MeterProvider},
    trace::TracerProvider,
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider, trace::SdkTracerProvider};
use std::{env, io, path::PathBuf, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use tracing::{Subscriber, warn};
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
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Where the environment names a collector.
    pub(super) fn start() -> Option<Self> {
        if !is_wanted("TRACES") {
            return None;
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Sender::new().ok()?)
            .build();
        let provider = SdkTracerProvider::builder().with_resource(resource());
        Some(Self(provider.with_batch_exporter(exporter.ok()?).build()))
    }

    /// What takes time, on its way to the collector.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
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
        // What is left is sent; whoever cannot be reached has been told of already.
        let _ = self.0.shutdown();
    }
}

/// Sends what is counted, until it is dropped.
pub(super) struct Metrics(SdkMeterProvider);

impl Metrics {
    /// Of a running configuration, where the environment names a collector.
    pub(super) fn start(handle: &Handle) -> Option<Self> {
        if !is_wanted("METRICS") {
            return None;
        }
        match provider() {
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

fn provider() -> Result<SdkMeterProvider, String> {
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Sender::new().map_err(|error| error.to_string())?)
        .build()
        .map_err(|error| error.to_string())?;
    let provider = SdkMeterProvider::builder().with_resource(resource());
    Ok(provider.with_periodic_exporter(exporter).build())
}

fn resource() -> Resource {
    let builder = Resource::builder();
    let builder = match env::var_os("OTEL_SERVICE_NAME") {
        Some(_) => builder,
        None => builder.with_service_name("reloader-host"),
    };
    builder.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

/// The numbers that `/metrics` has, too. Of what took its time, how often and how long in all.
fn measure(meter: &Meter, handle: &Handle) {
    for SourceNumber { name, help, unit, is_counter, read } in Numbers::of_sources() {
        let unit = unit.map_or("1", |unit| unit.ucum());
        let observe = of_sources(handle, move |source, observer| {
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
    let observe = of_sources(handle, |source, observer| {
        for (role, kind, count) in Numbers::failures(source) {
            let labels =
                [name_of(source), KeyValue::new("role", role), KeyValue::new("kind", kind)];
            observer.observe(count, &labels);
        }
    });
    let counter = meter.f64_observable_counter(format!("reloader.{name}"));
    counter.with_description(help).with_callback(observe).build();
    for (name, help, of) in Numbers::times() {
        let observe = of_sources(handle, move |source, observer| {
            observer.observe(of(source).count() as f64, &[name_of(source)]);
        });
        let counter = meter.f64_observable_counter(format!("reloader.{name}.count"));
        counter.with_description(help).with_callback(observe).build();
        let observe = of_sources(handle, move |source, observer| {
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
    handle: &Handle,
    each: impl Fn(&SourceCounts, &dyn AsyncInstrument<f64>) + Send + Sync + 'static,
) -> impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static {
    let handle = handle.clone();
    move |observer| handle.counts().iter().for_each(|source| each(source, observer))
}

fn name_of(source: &SourceCounts) -> KeyValue {
    KeyValue::new("source", source.status.name.clone())
}

/// Sends over the host's own connections. What sends has a thread of its own, and may wait.
#[derive(Debug)]
struct Sender {
    runtime: Runtime,
    ca: Option<PathBuf>,
}

impl Sender {
    fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let ca = env::var_os("OTEL_EXPORTER_OTLP_CERTIFICATE").map(Into::into);
        Ok(Self { runtime, ca })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let url = Url::parse(&request.uri().to_string()).map_err(|error| error.to_string())?;
        let tls = match url.scheme() {
            "https" => Some(outgoing::tls(self.ca.as_deref(), None)?),
            _ => None,
        };
        let stream = outgoing::connect(&url, tls).await?;
        let (mut parts, body) = request.into_parts();
        parts.uri = parts
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .parse()
            .map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let request = Request::from_parts(parts, Full::new(body));
        outgoing::exchange(stream, &outgoing::authority(&url), request, async |answer| {
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
        let sent = self.runtime.block_on(async { timeout(SEND, self.exchange(request)).await });
        Ok(sent.map_err(|_| format!("there was no answer within {SEND:?}"))??)
    }
}

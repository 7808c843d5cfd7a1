//! OpenTelemetry: traces and metrics that a collector receives.

use crate::served::APP;
use e2e::{TestHost, wait_until};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    metrics::v1::{metric::Data, number_data_point::Value},
    trace::v1::{Span, status::StatusCode},
};
use prost::Message;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

/// Simulated collector for OTLP over HTTP. It decodes requests with the types of the protocol.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    spans: Vec<Span>,
    metrics: Vec<(String, f64)>,
    services: Vec<String>,
}

impl Collector {
    fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let its = collector.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let (mut line, mut path, mut length) = (String::new(), String::new(), 0);
                while stream.read_line(&mut line).unwrap() > 2 {
                    let lower = line.to_lowercase();
                    if let Some(text) = lower.strip_prefix("content-length: ") {
                        length = text.trim().parse().unwrap();
                    } else if path.is_empty() {
                        path = line.split(' ').nth(1).unwrap().into();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                its.take(&path, &body);
                stream
                    .get_mut()
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .unwrap();
            }
        });
        (collector, address)
    }

    fn take(&self, path: &str, body: &[u8]) {
        let mut all = self.0.lock().unwrap();
        match path {
            "/v1/traces" => {
                for part in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                    let attributes = part.resource.unwrap().attributes;
                    let name = attributes.iter().find(|attribute| attribute.key == "service.name");
                    all.services.push(format!("{:?}", name.unwrap().value));
                    all.spans.extend(part.scope_spans.into_iter().flat_map(|scope| scope.spans));
                }
            }
            "/v1/metrics" => {
                let parts = ExportMetricsServiceRequest::decode(body).unwrap().resource_metrics;
                let scopes = parts.into_iter().flat_map(|part| part.scope_metrics);
                for metric in scopes.flat_map(|scope| scope.metrics) {
                    let points = match metric.data.unwrap() {
                        Data::Sum(sum) => sum.data_points,
                        Data::Gauge(gauge) => gauge.data_points,
                        other => panic!("{other:?}"),
                    };
                    for point in points {
                        if let Some(Value::AsDouble(value)) = point.value {
                            all.metrics.push((metric.name.clone(), value));
                        }
                    }
                }
            }
            other => panic!("{other}"),
        }
    }

    fn has_span(&self, is_it: impl Fn(&Span) -> bool) -> bool {
        self.0.lock().unwrap().spans.iter().any(is_it)
    }
}

#[test]
fn traces_and_metrics_are_exported() {
    let (collector, address) = Collector::start();
    let t = TestHost::new();
    t.write("app.in", "one");
    let sinks = "[[source.sink]]\ntype = \"file\"\npath = \"out\"\n\
                 [[source.sink]]\ntype = \"exec\"\ncommand = [\"false\"]\nretries = 0\n";
    t.write("reloader.toml", format!("{APP}{sinks}"));
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*address),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
    ];
    let mut host = t.run_with_all(&variables, &["run", "--config", "reloader.toml"]);
    t.wait_for_file("out", "one");
    wait_until("a span `read`", || collector.has_span(|span| span.name == "read"));
    wait_until("a span of the failure", || {
        collector.has_span(|span| {
            let failed = span.status.as_ref().is_some_and(|s| s.code() == StatusCode::Error);
            span.name == "deliver" && failed
        })
    });
    wait_until("changes are counted", || {
        let all = collector.0.lock().unwrap();
        all.metrics.contains(&("reloader.changes".into(), 1.0))
            && all.metrics.contains(&("reloader.sink_failures".into(), 1.0))
            && all.metrics.contains(&("reloader.failures".into(), 0.0))
            && all
                .metrics
                .iter()
                .any(|(name, sum)| name == "reloader.read_duration.sum" && *sum > 0.0)
    });
    assert!(collector.0.lock().unwrap().services[0].contains("reloader-host"));
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert!(!host.stderr().contains("read{"), "the log contains no spans: {}", host.stderr());
}

#[test]
fn final_metrics_are_flushed_on_exit() {
    let (collector, address) = Collector::start();
    let t = TestHost::new();
    t.write("app.in", "one");
    t.write("reloader.toml", format!("{APP}[[source.sink]]\ntype = \"file\"\npath = \"out\"\n"));
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*address),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=flags"),
    ];
    let mut host = t.run_with_all(&variables, &["run", "--config", "reloader.toml"]);
    t.wait_for_file("out", "one");
    host.wait_for_log("delivery succeeded");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    let all = collector.0.lock().unwrap();
    for name in ["reloader.changes", "reloader.sink_deliveries"] {
        assert!(all.metrics.contains(&(name.into(), 1.0)), "{name}: {:?}", all.metrics);
    }
    assert!(all.services[0].contains("flags"), "{:?}", all.services);
}

fn assert_export_failure_logged(address: &str, expected: &str) {
    let t = TestHost::new();
    t.write("app.in", "one");
    t.write("reloader.toml", format!("{APP}[[source.sink]]\ntype = \"file\"\npath = \"out\"\n"));
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", address), ("OTEL_METRIC_EXPORT_INTERVAL", "50")];
    let mut host = t.run_with_all(&variables, &["run", "--config", "reloader.toml"]);
    host.wait_for_log(expected);
    t.replace("app.in", "two");
    t.wait_for_file("out", "two");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert!(!host.stderr().contains("panicked"), "{}", host.stderr());
}

e2e::cases! {
    mod unusable_collector_is_logged: assert_export_failure_logged {
        invalid_address("nowhere:4317", "export disabled");
        unreachable_address("http://127.0.0.1:1", "OTLP export failed");
    }
}

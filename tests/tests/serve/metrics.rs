//! Tests of the Prometheus metrics of the HTTP API.

use crate::served::{Served, token};
use e2e::wait_until;
use std::{
    io::Write,
    process::{Command, Stdio},
};

fn number(page: &str, sample: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[test]
fn sources_and_sinks_are_counted() {
    let served = Served::app(
        "[[source.sink]]\ntype = \"file\"\npath = \"out\"\n\
         [[source]]\nname = \"bad\"\nplugin = \"file\"\nconfig.path = \"bad.in\"\nrequired = false\n\
         validate = { parse = \"json\" }\n\
         [[source.sink]]\ntype = \"exec\"\nname = \"never\"\ncommand = [\"false\"]\nretries = 1\n",
    );
    served.t.replace("app.in", "two");
    served.t.wait_for_file("out", "two");
    served.t.write("bad.in", "{");
    let page = || served.get("/metrics").text;
    let has = |sample: &str, expected: f64| number(&page(), sample) == Some(expected);
    wait_until("the counter of rejected values", || {
        has("reloader_rejected_values_total{source=\"bad\"}", 1.0)
    });
    served.t.replace("bad.in", "{}");
    wait_until("a retry", || {
        has("reloader_sink_retries_total{owner=\"bad\",sink=\"never\"}", 1.0)
            && has("reloader_sink_failing{owner=\"bad\",sink=\"never\"}", 1.0)
    });
    let page = page();
    let app = |name: &str| number(&page, &format!("reloader_{name}{{source=\"app\"}}")).unwrap();
    assert_eq!(
        (app("changes_total"), app("revision"), app("value_bytes")),
        (2.0, 2.0, 3.0),
        "{page}"
    );
    assert_eq!(app("watches_opened_total"), 1.0);
    assert_eq!(
        app("reaction_seconds_count"),
        1.0,
        "only the second value has a reaction time: the first one was there at the start"
    );
    assert!(app("read_duration_seconds_count") >= 2.0);
    assert!(app("plugin_memory_bytes") > 0.0 && app("plugin_cpu_seconds_total") > 0.0);
    assert_eq!(number(&page, "reloader_source_state{source=\"app\",state=\"current\"}"), Some(1.0));
    let delivered = number(&page, "reloader_sink_deliveries_total{owner=\"app\",sink=\"file-0\"}");
    assert_eq!(delivered, Some(2.0));
}

/// `promtool check metrics` reports no problems.
#[test]
fn promtool_reports_no_problems() {
    if !e2e::have("promtool") {
        return;
    }
    let served = Served::app("[[source.sink]]\ntype = \"file\"\npath = \"out\"\n");
    served.t.wait_for_file("out", "one");
    let page = served.get("/metrics");
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(page.text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let report = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(report, "", "{}", page.text);
}

#[test]
fn openmetrics_format_is_negotiated() {
    let served = Served::app("");
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let page = served.ask("GET", "/metrics", &[("accept", accept)]);
    assert!(page.header("content-type").starts_with("application/openmetrics-text"), "{page:?}");
    assert!(page.text.ends_with("# EOF\n"), "{}", page.text);
    let last = "reloader_read_duration_seconds_bucket{le=\"+Inf\",source=\"app\"} ";
    assert!(page.text.contains(last), "quantiles require the bucket `+Inf`: {}", page.text);
}

#[test]
fn restricted_token_sees_only_its_metrics() {
    let (token, reads) = token(&["t", "--source", "app"]);
    let served = Served::app(&format!(
        "[[source.sink]]\ntype = \"file\"\npath = \"out\"\n\
         [[source]]\nname = \"other\"\nplugin = \"file\"\nconfig.path = \"app.in\"\n\
         [[source.sink]]\ntype = \"file\"\npath = \"other.out\"\n\
         {reads}"
    ));
    let page = served.ask("GET", "/metrics", &[("authorization", &token)]).text;
    assert!(page.contains("source=\"app\"") && page.contains("owner=\"app\""), "{page}");
    assert!(!page.contains("\"other") && !page.contains("resident_memory"), "{page}");
}

/// Each metric that the dashboard and the alerts use exists.
#[test]
fn dashboard_and_alerts_use_existing_metrics() {
    let served = Served::app("[[source.sink]]\ntype = \"file\"\npath = \"out\"\n");
    served.t.wait_for_file("out", "one");
    let page = served.get("/metrics").text;
    let packaging = e2e::package().join("../packaging");
    for file in ["grafana.json", "alerts.yaml"] {
        let text = std::fs::read_to_string(packaging.join(file)).unwrap();
        let names: Vec<_> = text
            .match_indices("reloader_")
            .map(|(at, _)| {
                let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
                text[at..].split(word).next().unwrap()
            })
            .collect();
        assert!(names.len() >= 6, "{file}");
        for name in names {
            assert!(
                page.contains(&format!("\n{name}")),
                "{file} uses {name}, which does not exist"
            );
        }
    }
    if e2e::have("promtool") {
        let rules = packaging.join("alerts.yaml");
        let checked =
            Command::new("promtool").args(["check", "rules"]).arg(rules).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

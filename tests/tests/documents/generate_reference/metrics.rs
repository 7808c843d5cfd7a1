//! `metrics.md`: all metrics, from the response of `/metrics`.

use super::{generated, sentence};
use std::fmt::Write as _;

const INTRODUCTION: &str = "\
# Metrics

All metrics of `/metrics`, in the Prometheus and OpenMetrics formats. The export by OTLP names them `reloader.NAME`,
without `_total` and the unit. Guide: [monitoring](../operate/monitoring.md).

A scrape with a token that is restricted to some sources contains the metrics of these sources only, and no metrics of
the host itself.

| label | values |
|---|---|
| `source` | name of a source |
| `owner` | name of the source or group that the sink belongs to |
| `sink` | name of a sink |
| `state` | `current`, `stale`, `waiting`, `removed`, `ended`: see `state` in [SourceStatus](http-api.md#sourcestatus) |
| `role` | `read`, `watch`: which kind of call failed |
| `kind` | `config` (wrong settings), `denied` (no access, at the server or for lack of a grant), `transient` (retried), \
`permanent` (retried at a low rate), `crashed` (trap or exceeded limit of the plugin) |
| `status` | class of the HTTP status: `2xx`, `3xx`, `4xx`, `5xx` |

";

/// Returns the document. `scrape` returns the metrics of a host with one source and one sink.
pub(super) fn document(scrape: impl Fn() -> String) -> String {
    let mut scraped = scrape();
    e2e::wait_until("a delivery", || {
        scraped = scrape();
        scraped.contains("reloader_sink_deliveries_total{")
            && scraped.contains("reloader_value_age_seconds{")
    });
    let mut text = format!("{INTRODUCTION}{}", generated());
    text.push_str("\n| metric | type | labels | description |\n|---|---|---|---|\n");
    let lines: Vec<_> = scraped.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let kind = lines[index + 1].rsplit(' ').next().unwrap_or_default();
        let labels = lines.iter().skip(index + 2).take_while(|line| !line.starts_with('#'));
        let mut names: Vec<String> = Vec::new();
        for sample in labels {
            let set = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            for label in set.map(|(set, _)| set).unwrap_or_default().split(',') {
                let label = label.split('=').next().unwrap_or_default();
                let label = format!("`{label}`");
                if !names.contains(&label) && !["``", "`le`"].contains(&label.as_str()) {
                    names.push(label);
                }
            }
        }
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {} |", names.join(", "), sentence(help));
    }
    text
}

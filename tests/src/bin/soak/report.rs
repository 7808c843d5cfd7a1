//! Report of a run: text for a reader, and one line of JSON.
#![allow(clippy::print_stdout, reason = "the report is the output of the program")]

use crate::{faults::Fault, growth::Growth, host_log::Event};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Maximum number of different log events in the report.
const MAX_SHOWN_EVENTS: usize = 40;

/// Number, failures and longest recovery of the injected faults of one kind.
#[derive(Debug, Default)]
pub(crate) struct FaultStatistics {
    pub(crate) count: u64,
    pub(crate) failures: u64,
    /// Longest time from the end of the fault to the delivery of a new value.
    pub(crate) longest_recovery: Duration,
}

/// Report of one run of the soak test.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) duration: Duration,
    /// Time from the start of the host to the delivery of all values.
    pub(crate) start: Duration,
    pub(crate) statistics: BTreeMap<Fault, FaultStatistics>,
    pub(crate) growth: Vec<Growth>,
    /// Number of the host's threads by thread name, under load.
    pub(crate) threads: BTreeMap<String, u64>,
    /// Number of values that the load has written.
    pub(crate) changes: u64,
    /// Time from the end of the load to the delivery of all values.
    pub(crate) converged: Option<Duration>,
    pub(crate) lines_under_load: u64,
    pub(crate) lines_at_rest: u64,
    pub(crate) rest: Duration,
    pub(crate) events: BTreeMap<Event, u64>,
    pub(crate) violations: Vec<String>,
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

impl Report {
    pub(crate) fn print(&self) {
        println!("\nfault                     count  failures  longest recovery");
        for (fault, statistics) in &self.statistics {
            let FaultStatistics { count, failures, longest_recovery } = statistics;
            let recovery = milliseconds(*longest_recovery);
            println!("  {:<22} {count:>6} {failures:>9} {recovery:>14} ms", format!("{fault:?}"));
        }
        println!("\nresource, median of the first and of the last quarter in one process");
        for growth in &self.growth {
            let Growth { resource, first, last, allowed } = growth;
            println!("  {resource:<22} {first:>10} {last:>10}  (allowed growth: {allowed})");
        }
        let threads = self.threads.iter().map(|(name, count)| format!("{count} {name}"));
        println!("  threads under load: {}", threads.collect::<Vec<_>>().join(", "));
        println!("\nlog, by level and phrase");
        let mut events: Vec<_> = self.events.iter().collect();
        events.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for ((level, phrase), count) in events.iter().take(MAX_SHOWN_EVENTS) {
            println!("  {count:>7} {level:<5} {phrase:.100}");
        }
        if events.len() > MAX_SHOWN_EVENTS {
            println!("  … and {} others", events.len() - MAX_SHOWN_EVENTS);
        }
        println!();
        println!("start to all delivered     {:>8} ms", milliseconds(self.start));
        println!("changes                    {:>8}", self.changes);
        println!("log lines under load       {:>8}", self.lines_under_load);
        println!("log lines at rest          {:>8} in {:?}", self.lines_at_rest, self.rest);
        match self.converged {
            Some(took) => println!("last change to converged   {:>8} ms", milliseconds(took)),
            None => println!("not converged"),
        }
        println!("\nsummary: {}", self.to_json());
        if self.violations.is_empty() {
            println!("\nno violation; seed {}", self.seed);
        } else {
            println!("\n{} violations; seed {}", self.violations.len(), self.seed);
            for violation in &self.violations {
                println!("  {violation}");
            }
        }
    }

    fn to_json(&self) -> Value {
        let faults: Map<_, _> = self
            .statistics
            .iter()
            .map(|(fault, statistics)| {
                let figures = json!({
                    "count": statistics.count,
                    "failures": statistics.failures,
                    "longest_recovery_ms": milliseconds(statistics.longest_recovery),
                });
                (format!("{fault:?}"), figures)
            })
            .collect();
        let growth: Map<_, _> =
            self.growth.iter().map(|growth| (growth.resource.into(), growth.to_json())).collect();
        let mut levels = BTreeMap::<&str, u64>::new();
        for ((level, _), count) in &self.events {
            *levels.entry(level).or_default() += count;
        }
        json!({
            "seed": self.seed,
            "duration_seconds": self.duration.as_secs(),
            "start_ms": milliseconds(self.start),
            "faults": faults,
            "resources": growth,
            "threads": self.threads,
            "changes": self.changes,
            "log_lines_by_level": levels,
            "log_lines_under_load": self.lines_under_load,
            "log_lines_at_rest": self.lines_at_rest,
            "rest_seconds": self.rest.as_secs(),
            "converged_ms": self.converged.map(milliseconds),
            "violations": self.violations,
        })
    }
}

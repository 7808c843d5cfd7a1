//! What the benchmarks share: figures with their ratios, printed and kept in `bench/results.json`.
#![allow(dead_code, reason = "each benchmark uses what it needs")]

use serde_json::{Map, Value, json};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

/// Nothing that is measured takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One figure of one contender.
pub(crate) struct Figure {
    pub(crate) who: &'static str,
    pub(crate) value: f64,
}

pub(crate) fn figure(who: &'static str, value: f64) -> Figure {
    Figure { who, value }
}

/// Prints the figures, ours first, each with its ratio to ours, and keeps them.
pub(crate) fn report(benchmark: &str, unit: &str, figures: &[Figure]) {
    let ours = figures[0].value;
    println!("\n{benchmark} ({unit})");
    let mut kept = Map::new();
    for Figure { who, value } in figures {
        let ratio = if *value == ours { 1.0 } else { value / ours };
        println!("  {who:<34} {value:>12.3}   {ratio:>8.2} x ours");
        kept.insert((*who).into(), json!({ "value": rounded(*value), "ratio": rounded(ratio) }));
    }
    keep(benchmark, json!({ "unit": unit, "figures": kept }));
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// `bench/results.json` has the last result of each benchmark.
pub(crate) fn keep(benchmark: &str, result: Value) {
    let path = e2e::package().join("../bench/results.json");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut all: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    all.insert(benchmark.into(), result);
    let text = serde_json::to_string_pretty(&all).expect("JSON is writable");
    fs::write(&path, text + "\n").expect("bench/ is writable");
}

pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Replaces a file by renaming another one over it; when that happened.
pub(crate) fn replace(path: &Path, content: &str) -> Instant {
    let new = path.with_extension("new");
    fs::write(&new, content).expect("the directory is writable");
    let before = Instant::now();
    fs::rename(&new, path).expect("it is there");
    before
}

/// Waits for one value; when it arrived.
pub(crate) fn wait_for(values: &Receiver<(Instant, String)>, wanted: &str) -> Instant {
    loop {
        let (at, value) = values.recv_timeout(PATIENCE).expect("the value arrives");
        if value == wanted {
            return at;
        }
    }
}

/// Runs one part of this benchmark in a process of its own, and gives what it prints as JSON.
pub(crate) fn child(arguments: &[&str]) -> Value {
    let program = env::current_exe().expect("it is running");
    let output = Command::new(program)
        .env("BENCH_PART", arguments.join(" "))
        .stderr(Stdio::inherit())
        .output()
        .expect("it can be run again");
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("it prints JSON")
}

/// The part to run, if this is such a process.
pub(crate) fn part() -> Option<Vec<String>> {
    let part = env::var("BENCH_PART").ok()?;
    Some(part.split(' ').map(Into::into).collect())
}

/// Resident memory of this process, in KiB.
pub(crate) fn resident() -> f64 {
    status("VmRSS:")
}

/// What the kernel says of this process under such a name, in KiB.
pub(crate) fn status(name: &str) -> f64 {
    status_of(std::process::id(), name)
}

/// The same, of another process.
pub(crate) fn status_of(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is running");
    let line = status.lines().find(|line| line.starts_with(name)).expect("it has one");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Processor time that this process has used.
pub(crate) fn processor_time() -> Duration {
    processor_time_of(std::process::id())
}

/// Processor time that a process has used.
pub(crate) fn processor_time_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is running");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 10)
}

pub(crate) fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().to_owned();
    (directory, path)
}

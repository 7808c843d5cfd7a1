//! Shared code of the benchmarks. Results and their ratios are printed and saved in
//! `bench/results.json`.
#![allow(dead_code, reason = "each benchmark uses what it needs")]

use serde_json::{Map, Value, json};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

/// Maximum time for which a benchmark waits for a value or condition.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Measured value of one of the compared implementations.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

pub(crate) fn figure(name: &'static str, value: f64) -> Figure {
    Figure { name, value }
}

/// Prints and saves the results with their ratio to the first result, which is that of the reloader host.
pub(crate) fn report(benchmark: &str, unit: &str, figures: &[Figure]) {
    let ours = figures[0].value;
    println!("\n{benchmark} ({unit})");
    let mut kept = Map::new();
    for Figure { name, value } in figures {
        let ratio = if *value == ours { 1.0 } else { value / ours };
        println!("  {name:<34} {value:>12.3}   {ratio:>8.2} x ours");
        kept.insert((*name).into(), json!({ "value": rounded(*value), "ratio": rounded(ratio) }));
    }
    save(benchmark, json!({ "unit": unit, "figures": kept }));
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Returns the path of the saved results.
fn results_path() -> PathBuf {
    e2e::package().join("../bench/results.json")
}

/// Returns the saved results of all benchmarks.
fn saved_results() -> Map<String, Value> {
    let text = fs::read_to_string(results_path()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Returns the saved result of a benchmark.
pub(crate) fn saved(benchmark: &str) -> Option<Value> {
    saved_results().remove(benchmark)
}

/// Saves a result in `bench/results.json`, replacing the previous result of the same benchmark.
pub(crate) fn save(benchmark: &str, result: Value) {
    let mut all = saved_results();
    all.insert(benchmark.into(), result);
    let text = serde_json::to_string_pretty(&all).expect("JSON is writable");
    fs::write(results_path(), text + "\n").expect("bench/ is writable");
}

pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Replaces a file atomically and returns the time before the rename.
pub(crate) fn replace(path: &Path, content: &str) -> Instant {
    let new = path.with_extension("new");
    fs::write(&new, content).expect("the directory is writable");
    let before = Instant::now();
    fs::rename(&new, path).expect("the new file exists");
    before
}

/// Waits for a value and returns its arrival time.
pub(crate) fn wait_for(values: &Receiver<(Instant, String)>, wanted: &str) -> Instant {
    loop {
        let (at, value) = values.recv_timeout(WAIT_TIMEOUT).expect("the value arrives");
        if value == wanted {
            return at;
        }
    }
}

/// Runs a part of this benchmark in a child process and returns its output, parsed as JSON.
pub(crate) fn child(arguments: &[&str]) -> Value {
    let program = env::current_exe().expect("the program has a path");
    let output = Command::new(program)
        .env("BENCH_PART", arguments.join(" "))
        .stderr(Stdio::inherit())
        .output()
        .expect("the program can be started");
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("the child prints JSON")
}

/// Returns the arguments of the part to run, if this process is a child process of [`child`].
pub(crate) fn part() -> Option<Vec<String>> {
    let part = env::var("BENCH_PART").ok()?;
    Some(part.split(' ').map(Into::into).collect())
}

/// Returns the resident memory of this process, in KiB.
pub(crate) fn resident() -> f64 {
    status("VmRSS:")
}

/// Returns a field of `/proc/self/status`, in KiB.
pub(crate) fn status(name: &str) -> f64 {
    status_of(std::process::id(), name)
}

/// Returns a field of `/proc/PID/status`, in KiB.
pub(crate) fn status_of(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is running");
    let line =
        status.lines().find(|line| line.starts_with(name)).expect("the status has this field");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Returns the CPU time of this process.
pub(crate) fn processor_time() -> Duration {
    processor_time_of(std::process::id())
}

/// Returns the CPU time of a process.
pub(crate) fn processor_time_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is running");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 10)
}

pub(crate) fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let path = directory.path().to_owned();
    (directory, path)
}

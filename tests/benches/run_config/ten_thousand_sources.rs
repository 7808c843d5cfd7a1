//! Benchmark of 10,000 file sources in one process: startup, idle CPU time, memory, threads, open files, and the
//! reload of a configuration in which one source has changed.
//!
//! Prints each figure beside the saved figure of the previous run. To measure the effect of a change of the code, run
//! the benchmark before and after it.

use crate::support::{WAIT_TIMEOUT, median, processor_time_of, save, saved, status_of};
use e2e::{Running, TestHost};
use serde_json::{Map, Value, json};
use std::{
    fmt::Write,
    fs, thread,
    time::{Duration, Instant},
};

/// Name of the saved result.
const BENCHMARK: &str = "ten thousand sources";
/// Number of sources in one process.
const SOURCES: usize = 10_000;
/// Number of configuration reloads whose duration is measured.
const RELOADS: usize = 10;
/// Number of file changes whose latency is measured.
const CHANGES: usize = 20;
/// Time after the start in which background work of the startup finishes.
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// Time over which idle CPU time is measured.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// Timeout for the first values of all sources.
const START_TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) fn bench() {
    let t = TestHost::new();
    fs::create_dir(t.path("in")).unwrap();
    for number in 0..SOURCES {
        t.write(&format!("in/{number}"), "first");
    }
    t.write("reloader.toml", config("in/0"));
    let started_at = Instant::now();
    let host = t.run(&["run", "--config", "reloader.toml", "--listen", "127.0.0.1:0"]);
    wait_until_ready(&host, started_at);
    t.wait_for_file("out", "first");
    let started = started_at.elapsed();
    thread::sleep(SETTLE_TIME);
    let before = processor_time_of(host.id());
    thread::sleep(IDLE_TIME);
    let idle = (processor_time_of(host.id()) - before).as_secs_f64() / IDLE_TIME.as_secs_f64();
    let memory_at_rest = status_of(host.id(), "VmRSS:") / 1024.0;

    let change = median((0..CHANGES).map(|number| measure_change(&t, number)).collect());
    let before = processor_time_of(host.id());
    let reloads: Vec<_> = (0..RELOADS).map(|number| measure_reload(&t, &host, number)).collect();
    let reload_cpu = (processor_time_of(host.id()) - before).as_secs_f64() / RELOADS as f64;
    let delivered = median(reloads.iter().map(|reload| reload.delivered).collect());
    let logged = median(reloads.iter().map(|reload| reload.logged).collect());
    let open_files = fs::read_dir(format!("/proc/{}/fd", host.id())).unwrap().count();

    print_and_save(&[
        ("start until all have a value, in ms", started.as_secs_f64() * 1e3),
        ("idle CPU, in percent of one processor", idle * 100.0),
        ("a change of one file until delivered, in ms, median", change),
        ("reload of one source until delivered, in ms, median", delivered),
        ("reload of one source until logged, in ms, median", logged),
        ("CPU time of a reload, in ms", reload_cpu * 1e3),
        ("memory at rest, in MiB", memory_at_rest),
        ("memory after the reloads, in MiB", status_of(host.id(), "VmRSS:") / 1024.0),
        ("peak memory, in MiB", status_of(host.id(), "VmHWM:") / 1024.0),
        ("threads", status_of(host.id(), "Threads:")),
        ("open files", open_files as f64),
    ]);
}

/// Returns a configuration in which the first source reads `first_path` and has a file sink.
fn config(first_path: &str) -> String {
    let mut config = String::new();
    for number in 0..SOURCES {
        let path = if number == 0 { first_path.to_owned() } else { format!("in/{number}") };
        write!(
            config,
            "[[source]]\nname = \"s{number}\"\nplugin = \"file\"\nconfig.path = \"{path}\"\n"
        )
        .unwrap();
        if number == 0 {
            config += "[[source.sink]]\ntype = \"file\"\npath = \"out\"\n";
        }
    }
    config
}

/// Waits until all sources have a value.
fn wait_until_ready(host: &Running, started_at: Instant) {
    let url = loop {
        assert!(started_at.elapsed() < START_TIMEOUT, "the API does not listen: {}", host.stderr());
        let log = host.stderr();
        if let Some((_, rest)) = log.split_once("API listening url=")
            && let Some((url, _)) = rest.split_once('\n')
        {
            break format!("{}/readyz", url.trim());
        }
        thread::sleep(Duration::from_millis(5));
    };
    while ureq::get(&url).call().is_err() {
        assert!(started_at.elapsed() < START_TIMEOUT, "not all sources have a value");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Measures the time from a change of a file to the delivered value.
fn measure_change(t: &TestHost, number: usize) -> Duration {
    let value = format!("change {number}");
    t.write("in/0.new", &value);
    let start = Instant::now();
    fs::rename(t.path("in/0.new"), t.path("in/0")).unwrap();
    wait_until(|| is_delivered(t, &value));
    start.elapsed()
}

/// Durations of a configuration reload, from the replacement of the configuration file.
struct Reload {
    /// Until the value of the changed source is delivered.
    delivered: Duration,
    /// Until the host logs that it has reloaded the configuration.
    logged: Duration,
}

/// Changes the path of one source and measures the reload.
fn measure_reload(t: &TestHost, host: &Running, number: usize) -> Reload {
    let value = format!("reload {number}");
    let path = format!("in/reload-{number}");
    t.write(&path, &value);
    t.write("reloader.toml.new", config(&path));
    let reloads = || host.stderr().matches("configuration reloaded").count();
    let before = reloads();
    let start = Instant::now();
    fs::rename(t.path("reloader.toml.new"), t.path("reloader.toml")).unwrap();
    let (mut delivered, mut logged) = (None, None);
    wait_until(|| {
        if delivered.is_none() && is_delivered(t, &value) {
            delivered = Some(start.elapsed());
        }
        if logged.is_none() && reloads() > before {
            logged = Some(start.elapsed());
        }
        delivered.is_some() && logged.is_some()
    });
    Reload { delivered: delivered.unwrap(), logged: logged.unwrap() }
}

fn is_delivered(t: &TestHost, value: &str) -> bool {
    fs::read(t.path("out")).is_ok_and(|content| content == value.as_bytes())
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < WAIT_TIMEOUT, "timeout waiting for a delivery or a reload");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Prints the figures beside those of the previous run, and saves them.
fn print_and_save(figures: &[(&str, f64)]) {
    let previous = saved(BENCHMARK).unwrap_or_default();
    println!(
        "\n{SOURCES} file sources in one process      {:>12} {:>14}",
        "this run", "saved before"
    );
    let mut kept = Map::new();
    for &(name, value) in figures {
        let before = previous.get(name).and_then(Value::as_f64);
        let before = before.map_or_else(|| "-".to_owned(), |before| format!("{before:.1}"));
        println!("  {name:<52} {value:>8.1} {before:>14}");
        kept.insert(name.into(), json!((value * 10.0).round() / 10.0));
    }
    save(BENCHMARK, Value::Object(kept));
}

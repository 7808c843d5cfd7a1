//! Benchmark of `host run --config`.
//!
//! - Startup time, CPU time and memory of 1,000 sources with file sinks in one process.
//! - Startup time, idle CPU time, memory, threads and configuration reloads of 10,000 sources in one process.
//! - Latency from a change of a file, or of a Redis key, to the file that a sink writes; compared
//!   with consul-template and confd if they are installed.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

#[path = "../support/mod.rs"]
mod support;
mod ten_thousand_sources;

use e2e::{Redis, have};
use serde_json::json;
use std::{
    fmt::Write,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{
    WAIT_TIMEOUT, figure, median, processor_time_of, replace, report, save, scratch, status_of,
};

/// Number of sources in one process.
const SOURCES: usize = 1_000;
/// Number of changes of each source.
const ROUNDS: usize = 10;
/// Number of changes for which the latency is measured.
const CHANGES: usize = 100;

/// Child process that is killed on drop.
struct Process(Child);

impl Process {
    fn start(directory: &Path, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(directory)
            .env("XDG_STATE_HOME", directory.join("state"));
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().unwrap())
    }

    fn host(directory: &Path) -> Self {
        let program = e2e::program().display().to_string();
        Self::start(directory, &program, &["run", "--config", "reloader.toml"])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    bench_thousand_sources();
    ten_thousand_sources::bench();
    bench_file_to_file();
    if have("redis-server") {
        bench_redis_to_file();
    }
}

fn bench_thousand_sources() {
    let (_keep, directory) = scratch();
    let mut config = String::new();
    for number in 0..SOURCES {
        fs::write(directory.join(format!("{number}.in")), "first").unwrap();
        write!(
            config,
            "[[source]]\nname = \"s{number}\"\nplugin = \"file\"\nconfig.path = \"{number}.in\"\n\
             [[source.sink]]\ntype = \"file\"\npath = \"{number}.out\"\n"
        )
        .unwrap();
    }
    fs::write(directory.join("reloader.toml"), config).unwrap();
    let start = Instant::now();
    let host = Process::host(&directory);
    wait_for_all(&directory, "first");
    let started = start.elapsed();
    let pid = host.0.id();
    // Background work of the startup finishes before the measurement.
    thread::sleep(Duration::from_secs(3));
    let rested = processor_time_of(pid);
    thread::sleep(Duration::from_secs(5));
    let rest = processor_time_of(pid) - rested;
    let (before, start) = (processor_time_of(pid), Instant::now());
    for round in 0..ROUNDS {
        let value = format!("round {round}");
        for number in 0..SOURCES {
            replace(&directory.join(format!("{number}.in")), &value);
        }
        wait_for_all(&directory, &value);
    }
    let (took, used) = (start.elapsed() / ROUNDS as u32, processor_time_of(pid) - before);
    let each = used.as_secs_f64() * 1e6 / (SOURCES * ROUNDS) as f64;
    let (resident, peak) = (status_of(pid, "VmRSS:") / 1024.0, status_of(pid, "VmHWM:") / 1024.0);
    println!("\n{SOURCES} sources with file sinks, every change delivered");
    println!("  start to all delivered             {:>10.0} ms", started.as_secs_f64() * 1e3);
    println!("  a change of all, until delivered   {:>10.0} ms", took.as_secs_f64() * 1e3);
    println!("  processor time of one change       {each:>10.0} µs");
    println!("  processor time at rest, in 5 s     {:>10.0} ms", rest.as_secs_f64() * 1e3);
    println!("  memory                             {resident:>10.1} MiB (at most {peak:.1})");
    let figures = json!({
        "start": started.as_secs_f64() * 1e3,
        "a change of all": took.as_secs_f64() * 1e3,
        "processor time of a change, in microseconds": each,
        "processor time of 5 s at rest": rest.as_secs_f64() * 1e3,
        "memory in MiB": resident,
        "memory at most, in MiB": peak,
    });
    save("a thousand sources", json!({ "unit": "ms", "figures": figures }));
}

/// Waits until every file has this content.
fn wait_for_all(directory: &Path, value: &str) {
    let start = Instant::now();
    for number in 0..SOURCES {
        let path = directory.join(format!("{number}.out"));
        while fs::read(&path).ok().as_deref() != Some(value.as_bytes()) {
            assert!(start.elapsed() < WAIT_TIMEOUT, "{value:?} is not in {number}.out");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Returns the median latency from a change to the written file, in milliseconds.
fn median_latency(out: &Path, change: impl Fn(&str) -> Instant) -> f64 {
    let seen =
        |value: &str| fs::read(out).is_ok_and(|now| now.trim_ascii_end() == value.as_bytes());
    let wait = |value: &str| {
        let start = Instant::now();
        while !seen(value) {
            assert!(start.elapsed() < WAIT_TIMEOUT, "{value:?} is not in {}", out.display());
            thread::sleep(Duration::from_micros(50));
        }
        Instant::now()
    };
    change("first");
    wait("first");
    let times = (0..CHANGES).map(|number| {
        thread::sleep(Duration::from_millis(5));
        let value = format!("value {number}");
        let before = change(&value);
        wait(&value).duration_since(before)
    });
    median(times.collect())
}

fn source(plugin: &str, settings: &str) -> String {
    format!(
        "[[source]]\nname = \"a\"\nplugin = \"{plugin}\"\n{settings}\n\
         [[source.sink]]\ntype = \"file\"\npath = \"out\"\n"
    )
}

fn bench_file_to_file() {
    let mut figures = Vec::new();
    let (_keep, directory) = scratch();
    let (input, out) = (directory.join("in"), directory.join("out"));
    fs::write(&input, "zero").unwrap();
    fs::write(directory.join("reloader.toml"), source("file", "config.path = \"in\"")).unwrap();
    let host = Process::host(&directory);
    figures.push(figure("host run --config", median_latency(&out, |value| replace(&input, value))));
    drop(host);
    if is_installed("consul-template") {
        fs::write(directory.join("t"), "{{ file \"in\" }}").unwrap();
        let _peer = Process::start(&directory, "consul-template", &["-template", "t:out2"]);
        let out = directory.join("out2");
        figures
            .push(figure("consul-template", median_latency(&out, |value| replace(&input, value))));
    }
    report("a file to a file", "ms, median", &figures);
}

fn bench_redis_to_file() {
    let Some(redis) = Redis::start() else { return };
    redis.cli(&["config", "set", "notify-keyspace-events", "KEA"]);
    redis.set("/key", "zero");
    let mut figures = Vec::new();
    let (_keep, directory) = scratch();
    let url =
        format!("config = {{ url = \"redis://127.0.0.1:{}\", key = \"/key\" }}", redis.port());
    fs::write(directory.join("reloader.toml"), source("kvs", &url)).unwrap();
    let set = |value: &str| {
        redis.set("/key", value);
        // The time starts after `redis-cli` has exited, so that its process start is not measured.
        Instant::now()
    };
    let host = Process::host(&directory);
    figures.push(figure("host run --config", median_latency(&directory.join("out"), set)));
    drop(host);
    if is_installed("confd") {
        let confd = directory.join("confd");
        fs::create_dir_all(confd.join("conf.d")).unwrap();
        fs::create_dir_all(confd.join("templates")).unwrap();
        let out = directory.join("out3");
        let resource = format!(
            "[template]\nsrc = \"t.tmpl\"\ndest = \"{}\"\nkeys = [\"/key\"]\n",
            out.display()
        );
        fs::write(confd.join("conf.d/t.toml"), resource).unwrap();
        fs::write(confd.join("templates/t.tmpl"), "{{ getv \"/key\" }}").unwrap();
        let (node, confdir) = (format!("127.0.0.1:{}", redis.port()), confd.display().to_string());
        let arguments = ["-backend", "redis", "-node", &node, "-watch", "-confdir", &confdir];
        let _peer = Process::start(&directory, "confd", &arguments);
        figures.push(figure("confd", median_latency(&out, set)));
    }
    report("a key in Redis to a file", "ms, median", &figures);
}

fn is_installed(program: &str) -> bool {
    let mut asked = Command::new(program);
    let found = asked.arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        println!("\n{program} is not installed, so there is nothing to compare with");
    }
    found
}

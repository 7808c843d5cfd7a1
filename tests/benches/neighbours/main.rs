//! Isolation benchmark: impact of a hostile source on the latency of another source.
//!
//! Both sources run in one runtime on one worker thread. For each attack, the benchmark measures
//! the 99th percentile of the other source's latency before and during the attack, their ratio, and
//! the memory of the process before the attack, at its peak, and after the hostile source has
//! stopped.
//!
//! The measured source watches a file. For the attacks of `ALL_VICTIMS`, a Redis key and a URL of
//! nginx are measured as well.
//!
//! `cargo bench -p e2e --bench neighbours -- infinite-loop memory-fill` runs
//! only these two attacks.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod attacks;
#[path = "../support/mod.rs"]
mod support;
mod victims;

use attacks::{ATTACKS, Attack};
use e2e::guest;
use reloader_host::{PluginHost, Strategy};
use serde_json::{Map, Value, json};
use std::{
    env, fs,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use support::{child, part, resident, save, scratch, wait_for};
use victims::{Victim, installed_victims};

/// Number of changes of the victim's value in each measurement.
const CHANGES: usize = 1000;
/// Number of measurements of each attack; the median is reported.
const REPETITIONS: usize = 3;

/// Attacks that are measured with each kind of victim: the baseline and one of each category.
const ALL_VICTIMS: [&str; 7] = [
    "baseline",
    "infinite-loop",
    "busy-calls",
    "memory-fill",
    "max-size-values-next",
    "log-flood",
    "dirty",
];

fn main() {
    if let Some(part) = part() {
        let attack = ATTACKS.iter().find(|attack| attack.name == part[0]).unwrap();
        println!("{}", measure(attack, &part[1]));
        return;
    }
    // Build the guest once, before the child processes need it.
    let _built = guest("attacker");
    let wanted: Vec<String> = env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let victims = installed_victims();
    println!(
        "\nattack                            p99 before    during   ratio    median     MiB before   peak  after"
    );
    let mut kept = Map::new();
    for attack in ATTACKS {
        if wanted.is_empty() || wanted.iter().any(|name| name == attack.name) {
            let count = if ALL_VICTIMS.contains(&attack.name) { victims.len() } else { 1 };
            for victim in &victims[..count] {
                let row = measure_median(attack.name, victim);
                let name = match *victim {
                    "file" => attack.name.to_owned(),
                    other => format!("{}, {other}", attack.name),
                };
                print_row(&name, &row);
                kept.insert(name, row);
            }
        }
    }
    if wanted.is_empty() {
        save("beside an attacker", json!({ "unit": "ms and MiB", "figures": kept }));
    }
}

/// Repeats a measurement and returns the one with the median ratio.
fn measure_median(attack: &str, victim: &str) -> Value {
    let mut rows: Vec<_> = (0..REPETITIONS).map(|_| child(&[attack, victim])).collect();
    rows.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
    rows.swap_remove(REPETITIONS / 2)
}

fn ratio(row: &Value) -> f64 {
    row["ratio"].as_f64().unwrap_or(f64::NAN)
}

fn print_row(name: &str, row: &Value) {
    let number = |member: &str| row[member].as_f64().unwrap_or(f64::NAN);
    println!(
        "{name:<34}{:>8.3} ms{:>7.3} ms{:>8.2}{:>7.3} ms{:>11.1}{:>7.1}{:>7.1}",
        number("p99 before"),
        number("p99 during"),
        number("ratio"),
        number("median during"),
        number("memory before"),
        number("memory peak"),
        number("memory after"),
    );
}

/// Measures one attack. Runs in its own process.
fn measure(attack: &Attack, plugin: &str) -> Value {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_keep, directory) = scratch();
    let path = directory.join("value");
    let victim = Victim::new(plugin, &path);
    (victim.change)("first");
    let host = PluginHost::new().unwrap();
    let (sender, values) = channel();
    let (good, hostile) = tokio.block_on(async {
        let good = host.load(plugin).await.unwrap();
        let mut good = good.source("good").strategy(Strategy::Realtime);
        for (name, value) in &victim.settings {
            good = good.set(name, value.clone());
        }
        (good.start().unwrap(), host.load(&attack.plugin()).await.unwrap())
    });
    let mut readings = good.subscribe();
    tokio.spawn(async move {
        while let Ok(value) = readings.next().await {
            let at = Instant::now();
            let _ = sender.send((at, String::from_utf8_lossy(&value.content).into_owned()));
        }
    });
    wait_for(&values, "first");
    // Wait until the watch is live.
    thread::sleep(Duration::from_millis(500));
    let before = latencies(&victim, &values, "before");
    let memory_before = mebibytes(resident());
    reset_peak_memory();
    let attacker = {
        let _here = tokio.enter();
        attack.start(&hostile, &path)
    };
    // Wait until the attack is running.
    thread::sleep(Duration::from_millis(300));
    let during = latencies(&victim, &values, "during");
    let memory_peak = mebibytes(peak_memory());
    tokio.block_on(attacker.stop());
    thread::sleep(Duration::from_millis(300));
    let memory_after = mebibytes(resident());
    let (p99_before, p99_during) = (percentile(&before, 99), percentile(&during, 99));
    let result = json!({
        "p99 before": p99_before,
        "p99 during": p99_during,
        "ratio": p99_during / p99_before,
        "median during": percentile(&during, 50),
        "memory before": memory_before,
        "memory peak": memory_peak,
        "memory after": memory_after,
    });
    tokio.shutdown_background();
    result
}

/// Returns the sorted latencies of all changes of the victim's value.
fn latencies(victim: &Victim, values: &Receiver<(Instant, String)>, part: &str) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..CHANGES {
        let value = format!("{part} {number}");
        let before = (victim.change)(&value);
        let at = wait_for(values, &value);
        times.push(at.saturating_duration_since(before));
        thread::sleep(Duration::from_millis(2));
    }
    times.sort();
    times
}

/// Returns a percentile of sorted latencies, in milliseconds.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[times.len() * percent / 100].as_secs_f64() * 1e3
}

fn mebibytes(kibibytes: f64) -> f64 {
    (kibibytes / 102.4).round() / 10.0
}

/// Resets the kernel's record of the peak resident memory.
fn reset_peak_memory() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Returns the peak resident memory since the last reset, in KiB.
fn peak_memory() -> f64 {
    support::status("VmHWM:")
}

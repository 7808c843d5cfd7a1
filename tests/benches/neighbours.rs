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

mod support;

use e2e::{Nginx, Redis, guest, hostile, text_guest};
use reloader_host::{Plugin, PluginHost, Source, Strategy};
use serde_json::{Map, Value, json};
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use support::{child, part, replace, resident, save, scratch, wait_for};

/// Number of changes in each measurement.
const CHANGES: usize = 1000;
/// Number of measurements of each attack; the median is reported.
const REPETITIONS: usize = 3;

/// Attack: a hostile source and its strategy.
struct Attack {
    name: &'static str,
    guest: Guest,
    strategy: Strategy,
}

enum Guest {
    /// Guest `restless` with these settings. `PATH` is replaced by the path of a granted file,
    /// `PORT` by the port of a server that accepts connections and sends nothing.
    Deed(&'static [(&'static str, &'static str)]),
    Text(&'static str),
    /// Bundled plugin with these settings, connected to a hostile server. `PORT` is replaced by the
    /// server's port.
    HostileServer(&'static str, &'static [(&'static str, &'static str)], fn() -> hostile::Server),
}
use Guest::{Deed, HostileServer, Text};

const URL: (&str, &str) = ("url", "http://127.0.0.1:PORT/");
const EVENTS: [(&str, &str); 3] =
    [URL, ("watch", "sse"), ("watch_url", "http://127.0.0.1:PORT/events")];
const KEY: [(&str, &str); 2] = [("url", "redis://127.0.0.1:PORT"), ("key", "app")];

const POLLED: Strategy = Strategy::Polling;
const WATCHED: Strategy = Strategy::Realtime;

/// All attacks: on CPU time, memory, the log and the protocol; then hostile servers.
const ATTACKS: &[Attack] = &[
    Attack { name: "baseline", guest: Text("minimal"), strategy: POLLED },
    Attack { name: "infinite-loop", guest: Deed(&[("deed", "infinite-loop")]), strategy: POLLED },
    Attack {
        name: "infinite-loop-open",
        guest: Deed(&[("deed", "infinite-loop"), ("when", "open")]),
        strategy: POLLED,
    },
    Attack {
        name: "infinite-loop-next",
        guest: Deed(&[("deed", "infinite-loop"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "start-infinite-loop", guest: Text("start-infinite-loop"), strategy: POLLED },
    Attack {
        name: "realloc-infinite-loop",
        guest: Text("realloc-infinite-loop"),
        strategy: POLLED,
    },
    Attack {
        name: "compute-and-sleep",
        guest: Deed(&[("deed", "compute-and-sleep")]),
        strategy: POLLED,
    },
    Attack { name: "busy-wait", guest: Deed(&[("deed", "busy-wait")]), strategy: POLLED },
    Attack { name: "busy-calls", guest: Deed(&[("deed", "busy-calls")]), strategy: POLLED },
    Attack {
        name: "busy-read",
        guest: Deed(&[("deed", "busy-read"), ("granted", "PATH"), ("to", "PATH")]),
        strategy: POLLED,
    },
    Attack { name: "stack-overflow", guest: Text("stack-overflow"), strategy: POLLED },
    Attack { name: "memory-fill", guest: Text("memory-fill"), strategy: POLLED },
    Attack { name: "periodic-memory-fill", guest: Text("periodic-memory-fill"), strategy: WATCHED },
    Attack {
        name: "memory-growth-by-pages",
        guest: Text("memory-growth-by-pages"),
        strategy: POLLED,
    },
    Attack { name: "memory-growth", guest: Deed(&[("deed", "memory-growth")]), strategy: POLLED },
    Attack { name: "oversized-list", guest: Text("oversized-list"), strategy: POLLED },
    Attack {
        name: "oversized-value",
        guest: Deed(&[("deed", "oversized-value")]),
        strategy: POLLED,
    },
    Attack {
        name: "max-size-values",
        guest: Deed(&[("deed", "max-size-values")]),
        strategy: POLLED,
    },
    Attack {
        name: "max-size-values-next",
        guest: Deed(&[("deed", "max-size-values"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack {
        name: "oversized-cursor",
        guest: Deed(&[("deed", "oversized-cursor")]),
        strategy: POLLED,
    },
    Attack {
        name: "oversized-failure",
        guest: Deed(&[("deed", "oversized-failure")]),
        strategy: POLLED,
    },
    Attack { name: "many-fields", guest: Text("many-fields"), strategy: POLLED },
    Attack { name: "random-flood", guest: Deed(&[("deed", "random-flood")]), strategy: POLLED },
    Attack { name: "header-flood", guest: Deed(&[("deed", "header-flood")]), strategy: POLLED },
    Attack {
        name: "pollable-exhaustion",
        guest: Deed(&[("deed", "pollable-exhaustion")]),
        strategy: POLLED,
    },
    Attack {
        name: "socket-exhaustion",
        guest: Deed(&[("deed", "socket-exhaustion")]),
        strategy: POLLED,
    },
    Attack {
        name: "connection-exhaustion",
        guest: Deed(&[
            ("deed", "connection-exhaustion"),
            ("address", "tcp://127.0.0.1:PORT"),
            ("to", "127.0.0.1:PORT"),
        ]),
        strategy: POLLED,
    },
    Attack {
        name: "endless-upload",
        guest: Deed(&[
            ("deed", "endless-upload"),
            ("address", "http://127.0.0.1:PORT"),
            ("to", "127.0.0.1:PORT"),
        ]),
        strategy: POLLED,
    },
    Attack {
        name: "watch-exhaustion",
        guest: Deed(&[("deed", "watch-exhaustion"), ("granted", "PATH"), ("to", "PATH")]),
        strategy: POLLED,
    },
    Attack { name: "log-flood", guest: Deed(&[("deed", "log-flood")]), strategy: POLLED },
    Attack { name: "log-oversized", guest: Deed(&[("deed", "log-oversized")]), strategy: POLLED },
    Attack { name: "print-flood", guest: Deed(&[("deed", "print-flood")]), strategy: POLLED },
    Attack {
        name: "dirty",
        guest: Deed(&[("deed", "dirty"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "event-flood", guest: Text("event-flood"), strategy: WATCHED },
    Attack { name: "large-values", guest: Text("large-values"), strategy: WATCHED },
    Attack {
        name: "frequent-short-computation",
        guest: Text("frequent-short-computation"),
        strategy: WATCHED,
    },
    Attack {
        name: "alive",
        guest: Deed(&[("deed", "alive"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack {
        name: "distinct-values",
        guest: Deed(&[("deed", "distinct-values"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "trap", guest: Deed(&[("deed", "trap")]), strategy: POLLED },
    Attack {
        name: "trap-next",
        guest: Deed(&[("deed", "trap"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack {
        name: "server-gzip-bomb",
        guest: HostileServer("http", &[URL], gzip_bomb),
        strategy: POLLED,
    },
    Attack {
        name: "server-endless-body",
        guest: HostileServer("http", &[URL], || endless_body("", b"endless")),
        strategy: POLLED,
    },
    Attack {
        name: "server-endless-chunks",
        guest: HostileServer("http", &[URL], || {
            endless_body("transfer-encoding: chunked\r\n", b"1\r\nx\r\n")
        }),
        strategy: POLLED,
    },
    Attack {
        name: "server-header-flood",
        guest: HostileServer("http", &[URL], many_headers),
        strategy: POLLED,
    },
    Attack {
        name: "server-redirect-loop",
        guest: HostileServer("http", &[URL], redirect_loop),
        strategy: POLLED,
    },
    Attack {
        name: "server-event-flood",
        guest: HostileServer("http", &EVENTS, event_flood),
        strategy: WATCHED,
    },
    Attack {
        name: "server-endless-array",
        guest: HostileServer("kvs", &KEY, endless_array),
        strategy: POLLED,
    },
    Attack {
        name: "server-push-flood",
        guest: HostileServer("kvs", &KEY, push_flood),
        strategy: POLLED,
    },
    Attack {
        name: "server-wrong-protocol",
        guest: HostileServer("kvs", &KEY, wrong_protocol),
        strategy: POLLED,
    },
];

/// Decompression bomb: 1 GiB of zeros.
fn gzip_bomb() -> hostile::Server {
    let bomb = hostile::bomb(1 << 30);
    hostile::http(move |_, stream| {
        hostile::respond(stream, "200 OK", "content-encoding: gzip\r\n", &bomb)
    })
}

/// Endless response body that repeats `piece`.
fn endless_body(header: &'static str, piece: &'static [u8]) -> hostile::Server {
    hostile::http(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n{header}\r\n")?;
        hostile::flood(stream, piece)
    })
}

fn many_headers() -> hostile::Server {
    let headers: String = (0..5_000).map(|number| format!("x-{number}: {number}\r\n")).collect();
    hostile::http(move |_, stream| hostile::respond(stream, "200 OK", &headers, b"x"))
}

fn redirect_loop() -> hostile::Server {
    hostile::http(|_, stream| hostile::respond(stream, "302 Found", "location: /\r\n", b""))
}

fn event_flood() -> hostile::Server {
    hostile::http(|path, stream| {
        if path != "/events" {
            return hostile::respond(stream, "200 OK", "", b"value");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")?;
        hostile::flood(stream, b"data: x\n\n")
    })
}

/// RESP array with 99,999,999 null elements.
fn endless_array() -> hostile::Server {
    hostile::resp(|_, stream| {
        stream.write_all(b"*99999999\r\n")?;
        hostile::flood(stream, b"_\r\n")
    })
}

fn push_flood() -> hostile::Server {
    hostile::resp(|_, stream| hostile::flood(stream, b">2\r\n+a\r\n+b\r\n"))
}

fn wrong_protocol() -> hostile::Server {
    hostile::resp(|_, stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
}

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

/// Returns the bundled source plugins whose server is installed.
fn victims() -> Vec<&'static str> {
    let there =
        [("file", true), ("kvs", Redis::start().is_some()), ("http", Nginx::start().is_some())];
    there.into_iter().filter_map(|(plugin, is_there)| is_there.then_some(plugin)).collect()
}

fn main() {
    if let Some(part) = part() {
        let attack = ATTACKS.iter().find(|attack| attack.name == part[0]).unwrap();
        println!("{}", measure(attack, &part[1]));
        return;
    }
    // Build the guest once, before the child processes need it.
    let _built = guest("restless");
    let wanted: Vec<String> = env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let victims = victims();
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

/// Source whose latency is measured. `change` changes its value and returns the time of the change.
struct Victim {
    settings: Vec<(&'static str, String)>,
    change: Box<dyn Fn(&str) -> Instant>,
}

impl Victim {
    fn of(plugin: &str, path: &Path) -> Self {
        match plugin {
            "kvs" => {
                let redis = Redis::start().unwrap();
                let stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
                stream.set_nodelay(true).unwrap();
                let url = redis.url().trim_start_matches("url=").to_owned();
                let change = move |value: &str| {
                    let _running = &redis;
                    let before = Instant::now();
                    writeln!(&stream, "SET app \"{value}\"\r").unwrap();
                    let mut answer = String::new();
                    BufReader::new(&stream).read_line(&mut answer).unwrap();
                    before
                };
                let settings = vec![("url", url), ("key", "app".into())];
                Self { settings, change: Box::new(change) }
            }
            "http" => {
                let nginx = Nginx::start().unwrap();
                let (url, events) = (nginx.url("/app.txt"), nginx.url("/events"));
                let settings =
                    vec![("url", url), ("watch_url", events), ("watch", "sse".to_owned())];
                let change = move |value: &str| {
                    nginx.put("app.txt", value);
                    let before = Instant::now();
                    nginx.publish("changed");
                    before
                };
                Self { settings, change: Box::new(change) }
            }
            _ => {
                let settings = vec![("path", path.display().to_string())];
                let path = path.to_owned();
                Self { settings, change: Box::new(move |value| replace(&path, value)) }
            }
        }
    }
}

/// Measures one attack. Runs in its own process.
fn measure(attack: &Attack, plugin: &str) -> Value {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_keep, directory) = scratch();
    let path = directory.join("value");
    let victim = Victim::of(plugin, &path);
    (victim.change)("first");
    let host = PluginHost::new().unwrap();
    let (sender, values) = channel();
    let (good, hostile) = tokio.block_on(async {
        let good = host.load(plugin).await.unwrap();
        let mut good = good.source("good").strategy(Strategy::Realtime);
        for (name, value) in &victim.settings {
            good = good.set(name, value.clone());
        }
        (good.start().unwrap(), host.load(&component(attack)).await.unwrap())
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
        start(attack, &hostile, &path)
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

fn component(attack: &Attack) -> String {
    match attack.guest {
        Deed(_) => guest("restless").display().to_string(),
        Text(name) => text_guest(name).display().to_string(),
        HostileServer(plugin, ..) => plugin.to_owned(),
    }
}

fn start(attack: &Attack, hostile: &Plugin, path: &Path) -> Source {
    let mut source = hostile.source("hostile").interval(Duration::from_millis(10));
    let other = path.with_file_name("other");
    fs::write(&other, "something").unwrap();
    let (settings, port) = match attack.guest {
        Deed(settings) => (settings, hostile::tcp(hostile::hold).port()),
        Text(_) => (&[][..], 0),
        HostileServer(_, settings, server) => (settings, server().port()),
    };
    for (name, value) in settings {
        let value = value.replace("PORT", &port.to_string());
        source = source.set(name, value.replace("PATH", &other.display().to_string()));
    }
    source.strategy(attack.strategy).start().unwrap()
}

/// Returns the latency of each change, sorted.
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

//! What an attack does to its neighbours: a source reacts to changes, first alone and then beside a
//! hostile one, in one runtime on one worker thread. For each attack: the 99th percentile of the
//! reaction with and without it, their ratio, and the memory of the process before, at its peak, and
//! after the attacker has been stopped.
//!
//! The neighbour is a file; beside some of the attacks also a key of Redis, and what nginx serves.
//!
//! `cargo bench -p e2e --bench neighbours -- spin fill` measures these two alone.
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
use support::{child, keep, part, replace, resident, scratch, wait_for};

/// So many changes make a 99th percentile.
const CHANGES: usize = 1000;
const REPETITIONS: usize = 3;

/// Who attacks, and in which way.
struct Attack {
    name: &'static str,
    guest: Guest,
    strategy: Strategy,
}

enum Guest {
    /// `restless`, with settings. `PATH` stands for a file that is granted, `PORT` for a server that
    /// accepts and then says nothing.
    Deed(&'static [(&'static str, &'static str)]),
    Text(&'static str),
    /// A bundled plugin, with settings, at a server that is up to no good. `PORT` stands for its port.
    Asks(&'static str, &'static [(&'static str, &'static str)], fn() -> hostile::Server),
}
use Guest::{Asks, Deed, Text};

const URL: (&str, &str) = ("url", "http://127.0.0.1:PORT/");
const EVENTS: [(&str, &str); 3] =
    [URL, ("watch", "sse"), ("watch_url", "http://127.0.0.1:PORT/events")];
const KEY: [(&str, &str); 2] = [("url", "redis://127.0.0.1:PORT"), ("key", "app")];

const POLLED: Strategy = Strategy::Polling;
const WATCHED: Strategy = Strategy::Realtime;

/// Computing and time, memory, the log, the protocol; and servers.
const ATTACKS: &[Attack] = &[
    Attack { name: "nobody", guest: Text("quiet"), strategy: POLLED },
    Attack { name: "spin", guest: Deed(&[("deed", "spin")]), strategy: POLLED },
    Attack {
        name: "spin-open",
        guest: Deed(&[("deed", "spin"), ("when", "open")]),
        strategy: POLLED,
    },
    Attack {
        name: "spin-next",
        guest: Deed(&[("deed", "spin"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "start-spin", guest: Text("start-spin"), strategy: POLLED },
    Attack { name: "realloc-spin", guest: Text("realloc-spin"), strategy: POLLED },
    Attack { name: "nap", guest: Deed(&[("deed", "nap")]), strategy: POLLED },
    Attack { name: "busy-wait", guest: Deed(&[("deed", "busy-wait")]), strategy: POLLED },
    Attack { name: "busy-calls", guest: Deed(&[("deed", "busy-calls")]), strategy: POLLED },
    Attack {
        name: "busy-read",
        guest: Deed(&[("deed", "busy-read"), ("granted", "PATH"), ("to", "PATH")]),
        strategy: POLLED,
    },
    Attack { name: "recurse", guest: Text("recurse"), strategy: POLLED },
    Attack { name: "fill", guest: Text("fill"), strategy: POLLED },
    Attack { name: "fill-at-times", guest: Text("fill-at-times"), strategy: WATCHED },
    Attack { name: "memory-grow", guest: Text("memory-grow"), strategy: POLLED },
    Attack { name: "grow", guest: Deed(&[("deed", "grow")]), strategy: POLLED },
    Attack { name: "huge-list", guest: Text("huge-list"), strategy: POLLED },
    Attack { name: "huge", guest: Deed(&[("deed", "huge")]), strategy: POLLED },
    Attack { name: "full", guest: Deed(&[("deed", "full")]), strategy: POLLED },
    Attack {
        name: "full-next",
        guest: Deed(&[("deed", "full"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "huge-cursor", guest: Deed(&[("deed", "huge-cursor")]), strategy: POLLED },
    Attack { name: "huge-failure", guest: Deed(&[("deed", "huge-failure")]), strategy: POLLED },
    Attack { name: "many-fields", guest: Text("many-fields"), strategy: POLLED },
    Attack { name: "random-flood", guest: Deed(&[("deed", "random-flood")]), strategy: POLLED },
    Attack { name: "headers", guest: Deed(&[("deed", "headers")]), strategy: POLLED },
    Attack { name: "pollables", guest: Deed(&[("deed", "pollables")]), strategy: POLLED },
    Attack { name: "sockets", guest: Deed(&[("deed", "sockets")]), strategy: POLLED },
    Attack {
        name: "connections",
        guest: Deed(&[
            ("deed", "connections"),
            ("address", "tcp://127.0.0.1:PORT"),
            ("to", "127.0.0.1:PORT"),
        ]),
        strategy: POLLED,
    },
    Attack {
        name: "upload",
        guest: Deed(&[
            ("deed", "upload"),
            ("address", "http://127.0.0.1:PORT"),
            ("to", "127.0.0.1:PORT"),
        ]),
        strategy: POLLED,
    },
    Attack {
        name: "watches",
        guest: Deed(&[("deed", "watches"), ("granted", "PATH"), ("to", "PATH")]),
        strategy: POLLED,
    },
    Attack { name: "log-flood", guest: Deed(&[("deed", "log-flood")]), strategy: POLLED },
    Attack { name: "log-huge", guest: Deed(&[("deed", "log-huge")]), strategy: POLLED },
    Attack { name: "print-flood", guest: Deed(&[("deed", "print-flood")]), strategy: POLLED },
    Attack {
        name: "dirty",
        guest: Deed(&[("deed", "dirty"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "next-at-once", guest: Text("next-at-once"), strategy: WATCHED },
    Attack { name: "large-values", guest: Text("large-values"), strategy: WATCHED },
    Attack { name: "a-little-often", guest: Text("a-little-often"), strategy: WATCHED },
    Attack {
        name: "alive",
        guest: Deed(&[("deed", "alive"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack {
        name: "distinct",
        guest: Deed(&[("deed", "distinct"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "trap", guest: Deed(&[("deed", "trap")]), strategy: POLLED },
    Attack {
        name: "trap-next",
        guest: Deed(&[("deed", "trap"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "server-bomb", guest: Asks("http", &[URL], compressed), strategy: POLLED },
    Attack {
        name: "server-body",
        guest: Asks("http", &[URL], || endless("", b"endless")),
        strategy: POLLED,
    },
    Attack {
        name: "server-pieces",
        guest: Asks("http", &[URL], || endless("transfer-encoding: chunked\r\n", b"1\r\nx\r\n")),
        strategy: POLLED,
    },
    Attack { name: "server-headers", guest: Asks("http", &[URL], headers), strategy: POLLED },
    Attack { name: "server-circle", guest: Asks("http", &[URL], circle), strategy: POLLED },
    Attack { name: "server-events", guest: Asks("http", &EVENTS, events), strategy: WATCHED },
    Attack { name: "server-nothing", guest: Asks("kvs", &KEY, nothing), strategy: POLLED },
    Attack { name: "server-pushes", guest: Asks("kvs", &KEY, pushes), strategy: POLLED },
    Attack { name: "server-nonsense", guest: Asks("kvs", &KEY, nonsense), strategy: POLLED },
];

/// A gigabyte of zeros.
fn compressed() -> hostile::Server {
    let bomb = hostile::bomb(1 << 30);
    hostile::http(move |_, stream| {
        hostile::respond(stream, "200 OK", "content-encoding: gzip\r\n", &bomb)
    })
}

/// A body of such pieces.
fn endless(header: &'static str, piece: &'static [u8]) -> hostile::Server {
    hostile::http(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n{header}\r\n")?;
        hostile::flood(stream, piece)
    })
}

fn headers() -> hostile::Server {
    let headers: String = (0..5_000).map(|number| format!("x-{number}: {number}\r\n")).collect();
    hostile::http(move |_, stream| hostile::respond(stream, "200 OK", &headers, b"x"))
}

fn circle() -> hostile::Server {
    hostile::http(|_, stream| hostile::respond(stream, "302 Found", "location: /\r\n", b""))
}

fn events() -> hostile::Server {
    hostile::http(|path, stream| {
        if path != "/events" {
            return hostile::respond(stream, "200 OK", "", b"value");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")?;
        hostile::flood(stream, b"data: x\n\n")
    })
}

/// As much of it as there may be.
fn nothing() -> hostile::Server {
    hostile::resp(|_, stream| {
        stream.write_all(b"*99999999\r\n")?;
        hostile::flood(stream, b"_\r\n")
    })
}

fn pushes() -> hostile::Server {
    hostile::resp(|_, stream| hostile::flood(stream, b">2\r\n+a\r\n+b\r\n"))
}

fn nonsense() -> hostile::Server {
    hostile::resp(|_, stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
}

/// The attacks that are measured beside each kind of source: nobody, and one of each subject.
const BESIDE_ALL: [&str; 7] =
    ["nobody", "spin", "busy-calls", "fill", "full-next", "log-flood", "dirty"];

/// The bundled plugins, and whether there is the server that a source of theirs needs.
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
    // Built here, once, and not in each of the processes.
    let _built = guest("restless");
    let wanted: Vec<String> = env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let victims = victims();
    println!(
        "\nbeside              p99 before    during   ratio    median     MiB before   peak  after"
    );
    let mut kept = Map::new();
    for attack in ATTACKS {
        if wanted.is_empty() || wanted.iter().any(|name| name == attack.name) {
            let count = if BESIDE_ALL.contains(&attack.name) { victims.len() } else { 1 };
            for victim in &victims[..count] {
                let row = measured(attack.name, victim);
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
        keep("beside an attacker", json!({ "unit": "ms and MiB", "figures": kept }));
    }
}

/// The machine has its moods: of some measurements, the one in the middle.
fn measured(attack: &str, victim: &str) -> Value {
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
        "{name:<20}{:>8.3} ms{:>7.3} ms{:>8.2}{:>7.3} ms{:>11.1}{:>7.1}{:>7.1}",
        number("p99 before"),
        number("p99 during"),
        number("ratio"),
        number("median during"),
        number("memory before"),
        number("memory peak"),
        number("memory after"),
    );
}

/// A source that is no attacker, and what changes it: it gives when.
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

/// One attack, in a process of its own.
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
    // Its watch is open, too.
    thread::sleep(Duration::from_millis(500));
    let before = reactions(&victim, &values, "before");
    let memory_before = mebibytes(resident());
    forget_peak();
    let attacker = {
        let _here = tokio.enter();
        start(attack, &hostile, &path)
    };
    // Long enough for it to be at work.
    thread::sleep(Duration::from_millis(300));
    let during = reactions(&victim, &values, "during");
    let memory_peak = mebibytes(peak());
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
        Asks(plugin, ..) => plugin.to_owned(),
    }
}

fn start(attack: &Attack, hostile: &Plugin, path: &Path) -> Source {
    let mut source = hostile.source("hostile").interval(Duration::from_millis(10));
    let other = path.with_file_name("other");
    fs::write(&other, "something").unwrap();
    let (settings, port) = match attack.guest {
        Deed(settings) => (settings, hostile::tcp(hostile::hold).port()),
        Text(_) => (&[][..], 0),
        Asks(_, settings, server) => (settings, server().port()),
    };
    for (name, value) in settings {
        let value = value.replace("PORT", &port.to_string());
        source = source.set(name, value.replace("PATH", &other.display().to_string()));
    }
    source.strategy(attack.strategy).start().unwrap()
}

/// How long each of some changes took to be at the receiver, shortest first.
fn reactions(victim: &Victim, values: &Receiver<(Instant, String)>, part: &str) -> Vec<Duration> {
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

/// In milliseconds, of times that are sorted.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[times.len() * percent / 100].as_secs_f64() * 1e3
}

fn mebibytes(kibibytes: f64) -> f64 {
    (kibibytes / 102.4).round() / 10.0
}

/// The peak of the memory begins anew.
fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// The most memory since then, in KiB.
fn peak() -> f64 {
    support::status("VmHWM:")
}

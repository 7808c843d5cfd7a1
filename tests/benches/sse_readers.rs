//! Benchmark of server-sent events with 5,000 readers on one host.
//!
//! Measures the latency from a change to the last reader, without and with further clients that read
//! nothing; the CPU time of a change; and the memory of each reader. Compares the latency with nginx
//! and nchan.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod support;

use e2e::{Nginx, TestHost};
use serde_json::json;
use std::time::{Duration, Instant};
use support::{WAIT_TIMEOUT, figure, median, processor_time_of, report, save, status_of};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Number of clients that read as fast as possible.
const READERS: usize = 5_000;
/// Number of further clients that read nothing.
const STALLED_READERS: usize = 500;
/// Number of changes for which the latency is measured.
const CHANGES: usize = 30;
/// Number of changes in a burst; the last one must reach all readers.
const BURST_CHANGES: usize = 200;

fn main() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ours = tokio.block_on(host());
    println!("\n{READERS} readers of one host, {STALLED_READERS} more that read nothing");
    println!("  lost: {} of {} events", ours.lost, READERS * CHANGES);
    println!("  memory of each reader: {:.1} KiB", ours.memory);
    println!("  processor time of a change at all readers: {:.1} ms", ours.processor);
    println!(
        "  the last of {BURST_CHANGES} changes at once is everywhere after {:.0} ms",
        ours.burst
    );
    let alone = figure("beside 500 that read nothing", ours.beside);
    report(
        "a change is at the last of 5,000 readers",
        "ms",
        &[figure("reloader host", ours.last), alone],
    );
    save(
        "5,000 readers of events",
        json!({
            "lost": ours.lost,
            "KiB of each reader": (ours.memory * 10.0).round() / 10.0,
            "ms of a processor for a change": (ours.processor * 10.0).round() / 10.0,
            "ms until the last of 200 changes is everywhere": ours.burst.round(),
        }),
    );
    if let Some(nginx) = Nginx::start() {
        let theirs = tokio.block_on(nchan(&nginx));
        report(
            "the same, beside nginx with nchan",
            "ms",
            &[figure("reloader host", ours.last), figure("nginx with nchan", theirs)],
        );
    }
}

struct Ours {
    last: f64,
    beside: f64,
    lost: usize,
    memory: f64,
    processor: f64,
    burst: f64,
}

async fn host() -> Ours {
    let t = TestHost::new();
    t.write("value", "0");
    t.write(
        "reloader.toml",
        "[state]\nenabled = false\n[[source]]\nname = \"app\"\nplugin = \"file\"\nconfig.path = \"value\"\n",
    );
    let host = t.run(&["run", "--config", "reloader.toml", "--listen", "127.0.0.1:0"]);
    host.wait_for_log("API listening url=");
    let log = host.stderr();
    let address =
        log.split("API listening url=http://").nth(1).unwrap().lines().next().unwrap().to_owned();
    let memory = || status_of(host.id(), "VmRSS:");
    let before = memory();
    let (sender, mut seen) = unbounded_channel();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let stream = subscribe(&address, "/v1/events").await;
        readers.spawn(read(stream, b"\"revision\":", sender.clone()));
    }
    wait_for_all(&mut seen, 1).await;
    let each = (memory() - before) / READERS as f64;
    let busy = processor_time_of(host.id());
    let mut changes = Changes { t: &t, last: 1, lost: 0 };
    let last = changes.measure(&mut seen).await;
    let busy = (processor_time_of(host.id()) - busy).as_secs_f64() * 1e3 / CHANGES as f64;
    let mut silent = Vec::new();
    for _ in 0..STALLED_READERS {
        silent.push(subscribe(&address, "/v1/events").await);
    }
    let beside = changes.measure(&mut seen).await;
    let start = Instant::now();
    for number in 0..BURST_CHANGES {
        t.replace("value", format!("burst {number}"));
    }
    // Intermediate values may be coalesced; the last one must arrive.
    let burst = last_value(&address, &format!("burst {}", BURST_CHANGES - 1)).await;
    wait_for_all(&mut seen, burst).await;
    let burst = start.elapsed().as_secs_f64() * 1e3;
    Ours { last, beside, lost: changes.lost, memory: each, processor: busy, burst }
}

/// Changes of the value, whose revisions are numbered consecutively.
struct Changes<'a> {
    t: &'a TestHost,
    /// Revision of the last change.
    last: u64,
    lost: usize,
}

impl Changes<'_> {
    /// Returns the median latency from a change to the last reader, in milliseconds.
    async fn measure(&mut self, seen: &mut Seen) -> f64 {
        let mut times = Vec::new();
        for _ in 0..CHANGES {
            self.last += 1;
            let before = Instant::now();
            self.t.replace("value", self.last.to_string());
            let (at, arrived) = wait_for_all(seen, self.last).await;
            self.lost += READERS - arrived;
            times.push(at - before);
        }
        median(times)
    }
}

type Seen = UnboundedReceiver<(Instant, u64)>;

/// Waits until all readers have received this revision. Returns the time at which the last reader
/// received it, and the number of readers that received it before the timeout.
async fn wait_for_all(seen: &mut Seen, revision: u64) -> (Instant, usize) {
    let (mut last, mut count) = (Instant::now(), 0);
    while count < READERS {
        let Ok(Some((at, this))) = timeout(WAIT_TIMEOUT, seen.recv()).await else { break };
        if this == revision {
            (last, count) = (at, count + 1);
        }
    }
    (last, count)
}

async fn subscribe(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reports each number that follows the text `prefix` in the stream, with its arrival time.
async fn read(
    mut stream: TcpStream,
    prefix: &'static [u8],
    sender: UnboundedSender<(Instant, u64)>,
) {
    let mut buffer = Vec::with_capacity(1024);
    while stream.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        let at = Instant::now();
        let mut line = 0;
        while let Some(end) = buffer[line..].iter().position(|byte| *byte == b'\n') {
            let text = &buffer[line..line + end];
            line += end + 1;
            let found = text.windows(prefix.len()).position(|window| window == prefix);
            if let Some(place) = found {
                let digits = &text[place + prefix.len()..];
                let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
                let number = digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
                let _ = sender.send((at, number));
            }
        }
        buffer.drain(..line);
    }
}

/// Waits until the source has this value and returns its revision.
async fn last_value(address: &str, wanted: &str) -> u64 {
    loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            "GET /v1/sources/app/value HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        if answer.ends_with(wanted) {
            let revision = answer.split("reloader-revision: ").nth(1).unwrap();
            return revision.lines().next().unwrap().trim().parse().unwrap();
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Returns the median latency from a publication at nginx with nchan to the last reader, in
/// milliseconds.
async fn nchan(nginx: &Nginx) -> f64 {
    let (sender, mut seen) = unbounded_channel();
    let url = nginx.url("/events");
    let address = url.trim_start_matches("http://").trim_end_matches("/events").to_owned();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(read(subscribe(&address, "/events").await, b"data: ", sender.clone()));
    }
    while nginx.subscribers() < u32::try_from(READERS).unwrap() {
        sleep(Duration::from_millis(10)).await;
    }
    let mut times = Vec::new();
    for number in 1..=CHANGES as u64 {
        let (before, message) = (Instant::now(), number.to_string());
        // nginx answers the publisher only after it has sent the event to all subscribers, so the
        // benchmark waits for the readers at the same time.
        let (_, (at, arrived)) =
            tokio::join!(publish(&address, &message), wait_for_all(&mut seen, number));
        assert_eq!(arrived, READERS);
        times.push(at - before);
    }
    median(times)
}

async fn publish(address: &str, message: &str) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = message.len();
    let request = format!("POST /publish HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{message}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
}

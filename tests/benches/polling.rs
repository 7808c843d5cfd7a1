//! Benchmark of polling.
//!
//! - CPU time and memory of many native sources, compared with the crate `hot_reload`.
//! - Polls per second of a running plugin instance, compared with native polls.
//! - CPU time and memory of idle sources.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod support;

use async_trait::async_trait;
use reloader_host::{
    PluginHost, Reload, ReloadResult, ReloaderConfig, ReloaderService, Strategy,
    provider::Reader,
    types::{Cursor, Failure, Outcome, Snapshot},
};
use serde_json::{Value, json};
use std::{
    fs,
    hint::black_box,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use support::{child, figure, part, processor_time, report, resident, scratch};

/// Minimal source with a counter of its polls. Its value is the number of polls in billions, so it stays 0, and no new
/// value is published.
#[derive(Clone)]
struct Number(Arc<AtomicU64>);

#[async_trait]
impl Reload<u64> for Number {
    type Source = Arc<AtomicU64>;

    async fn new(source: &Self::Source) -> ReloadResult<Self, u64> {
        Ok(Self(source.clone()))
    }

    async fn reload(&self) -> ReloadResult<Option<u64>, u64> {
        Ok(Some(self.0.fetch_add(1, Ordering::Relaxed) / 1_000_000_000))
    }
}

#[async_trait]
impl seed::Reload<u64> for Number {
    type Source = Arc<AtomicU64>;

    async fn new(source: &Self::Source) -> seed::ReloadResult<Self, u64> {
        Ok(Self(source.clone()))
    }

    async fn reload(&self) -> seed::ReloadResult<Option<u64>, u64> {
        Ok(Some(self.0.fetch_add(1, Ordering::Relaxed) / 1_000_000_000))
    }
}

fn main() {
    if let Some(part) = part() {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(async {
            match part[..] {
                ["ours", sources] => polled_natively(sources.parse().unwrap(), true).await,
                ["theirs", sources] => polled_natively(sources.parse().unwrap(), false).await,
                ["warm"] => warm_reads().await,
                [strategy, sources] => idle_sources(strategy, sources.parse().unwrap()).await,
                _ => unreachable!("unknown part of the benchmark: {part:?}"),
            }
        });
        println!("{result}");
        std::process::exit(0);
    }
    for sources in ["1000", "10000"] {
        let ours = child(&["ours", sources]);
        let theirs = child(&["theirs", sources]);
        let both = |name: &str| {
            let value = |result: &Value| result[name].as_f64().unwrap();
            [figure("native reloaders", value(&ours)), figure("hot_reload 0.3.6", value(&theirs))]
        };
        let what = format!("{sources} native sources polled each second");
        report(&format!("{what}: processor time a poll"), "us", &both("us"));
        report(&format!("{what}: memory of a source"), "KiB", &both("kib"));
        report(&format!("{what}: most polls in one 10 ms, of all"), "%", &both("peak"));
    }
    let warm = child(&["warm"]);
    let value = |name: &str| warm[name].as_f64().unwrap();
    report(
        "warm polls on one core",
        "polls/s",
        &[figure("plugin, in the sandbox", value("plugin")), figure("native", value("native"))],
    );
    report(
        "warm polls of a file on one core",
        "polls/s",
        &[figure("plugin `file`", value("file")), figure("bare read", value("native file"))],
    );
    for (strategy, sources) in [("polling", "10000"), ("polling", "100000"), ("realtime", "10000")]
    {
        let result = child(&[strategy, sources]);
        let what = format!("{sources} sources of the plugin `file`, {strategy}, at rest");
        let value = |name: &str| result[name].as_f64().unwrap();
        report(&format!("{what}: memory of a source"), "KiB", &[figure("plugin", value("kib"))]);
        report(&format!("{what}: memory in all"), "MiB", &[figure("plugin", value("mib"))]);
        report(&format!("{what}: processor time of 5 s"), "ms", &[figure("plugin", value("ms"))]);
    }
}

/// Polls many native sources every second for ten seconds.
async fn polled_natively(sources: usize, ours: bool) -> Value {
    let number = Arc::new(AtomicU64::new(0));
    let before = resident();
    let mut receivers = (Vec::new(), Vec::new());
    for _ in 0..sources {
        if ours {
            let (service, receiver) =
                ReloaderService::<Number, u64>::new(&number, ReloaderConfig::polling(1))
                    .await
                    .unwrap();
            tokio::spawn(async move { service.start().await });
            receivers.0.push(receiver);
        } else {
            let (service, receiver) = seed::ReloaderService::<Number, u64>::new(
                &number,
                seed::ReloaderConfig::polling(1),
            )
            .await
            .unwrap();
            tokio::spawn(async move { service.start().await });
            receivers.1.push(receiver);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let kib = (resident() - before) / sources as f64;
    let (time, polls) = (processor_time(), number.load(Ordering::Relaxed));
    let mut most = 0;
    let mut last = polls;
    for _ in 0..1000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = number.load(Ordering::Relaxed);
        most = most.max(now - last);
        last = now;
    }
    let polls = last - polls;
    let us = (processor_time() - time).as_secs_f64() * 1e6 / polls as f64;
    json!({ "us": us, "kib": kib, "peak": most as f64 * 100.0 / sources as f64 })
}

/// Measures reads per second of two plugins with a running instance, and of two native readers.
async fn warm_reads() -> Value {
    let runtime = PluginHost::new().unwrap();
    // Cheapest plugin: its value is the list of its environment variables, which is empty.
    let attacker = e2e::guest("attacker").display().to_string();
    let attacker = runtime.load(&attacker).await.unwrap();
    let answers = attacker.source("warm").set("attack", "environment").provider().unwrap();
    let (_keep, directory) = scratch();
    let path = directory.join("value");
    fs::write(&path, "value").unwrap();
    let file = runtime.load("file").await.unwrap();
    let file = file.source("warm").set("path", path.display().to_string()).provider().unwrap();
    // Reads of a recently written file take longer: the host checks that the writer has finished.
    tokio::time::sleep(Duration::from_millis(100)).await;
    json!({
        "plugin": reads_per_second(answers.reader()).await,
        "native": reads_per_second(Box::new(Constant)).await,
        "file": reads_per_second(file.reader()).await,
        "native file": reads_per_second(Box::new(NativeFile(path))).await,
    })
}

async fn reads_per_second(mut reader: Box<dyn Reader>) -> f64 {
    let mut reads = 0_u32;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        for _ in 0..1000 {
            black_box(reader.read(None).await.unwrap());
        }
        reads += 1000;
    }
    f64::from(reads) / start.elapsed().as_secs_f64()
}

/// Native reader that returns a constant.
struct Constant;

#[async_trait]
impl Reader for Constant {
    async fn read(&mut self, _: Option<Cursor>) -> Result<Outcome, Failure> {
        Ok(Outcome::Changed(Snapshot::new("value".to_owned())))
    }
}

/// Native reader of a file.
struct NativeFile(PathBuf);

#[async_trait]
impl Reader for NativeFile {
    async fn read(&mut self, _: Option<Cursor>) -> Result<Outcome, Failure> {
        let content = fs::read(&self.0).map_err(|error| Failure::transient(error.to_string()))?;
        Ok(Outcome::Changed(Snapshot::new(content)))
    }
}

/// Measures CPU time and memory of many idle sources, each with one small file, after all sources have
/// a value.
async fn idle_sources(strategy: &str, sources: usize) -> Value {
    let strategy = if strategy == "polling" { Strategy::Polling } else { Strategy::Realtime };
    let (_keep, directory) = scratch();
    let plugin = PluginHost::new().unwrap().load("file").await.unwrap();
    let before = resident();
    let mut running = Vec::new();
    for batch in 0..sources / 1000 {
        let folder = directory.join(batch.to_string());
        fs::create_dir(&folder).unwrap();
        let mut started = Vec::new();
        for number in 0..1000 {
            let path = folder.join(number.to_string());
            fs::write(&path, "value").unwrap();
            let source = plugin.source("value").set("path", path.display().to_string());
            let source = source.strategy(strategy).interval(Duration::from_secs(86_400));
            started.push(source.start().unwrap());
        }
        for source in &started {
            source.subscribe().next().await.unwrap();
        }
        running.extend(started);
    }
    // The host drops idle readers after two seconds, and idle threads end after ten seconds.
    tokio::time::sleep(Duration::from_secs(13)).await;
    let memory = resident();
    let time = processor_time();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ms = (processor_time() - time).as_secs_f64() * 1e3;
    json!({ "kib": (memory - before) / sources as f64, "mib": memory / 1024.0, "ms": ms })
}

//! Benchmark of the latency from a change of a file to a subscriber in the same process.
//!
//! Compares the sandboxed plugin, the native reloader, the crate `hot_reload`, and a plain loop
//! around inotify and read. The loop is measured twice: alone, and with an async channel to the
//! subscriber, as all other implementations have.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod support;

use async_trait::async_trait;
use reloader_host::{
    AsyncFileLoad, FileReloader, PluginHost, ReloaderConfig, ReloaderService, Strategy,
};
use rustix::fs::inotify;
use std::{
    ffi::OsStr,
    fs, io,
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use support::{figure, median, replace, report, scratch, wait_for};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Text(String);

impl TryFrom<&PathBuf> for Text {
    type Error = io::Error;

    fn try_from(path: &PathBuf) -> Result<Self, io::Error> {
        fs::read_to_string(path).map(Text)
    }
}

#[async_trait]
impl AsyncFileLoad for Text {
    type Error = io::Error;

    async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> Result<Self, io::Error> {
        fs::read_to_string(path).map(Text)
    }
}

#[async_trait]
impl seed::AsyncFileLoad for Text {
    type Error = io::Error;

    async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> Result<Self, io::Error> {
        fs::read_to_string(path).map(Text)
    }
}

/// Measured implementation, and the values that it reports, each with the time of its report.
struct Contender {
    name: &'static str,
    path: PathBuf,
    values: Receiver<(Instant, String)>,
}

fn contender(
    name: &'static str,
    directory: &Path,
    follow: impl FnOnce(PathBuf, std::sync::mpsc::Sender<(Instant, String)>),
) -> Contender {
    let path = directory.join(name.split(' ').next().unwrap()).join("value");
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "first").unwrap();
    let (sender, values) = channel();
    follow(path.clone(), sender);
    wait_for(&values, "first");
    Contender { name, path, values }
}

fn contenders(directory: &Path, runtime: &tokio::runtime::Runtime) -> Vec<Contender> {
    let plugin = contender("plugin, in the sandbox", directory, |path, sender| {
        runtime.spawn(async move {
            let plugin = PluginHost::new().unwrap().load("file").await.unwrap();
            let source = plugin.source("value").set("path", path.display().to_string());
            let source = source.strategy(Strategy::Hybrid).start().unwrap();
            let mut values = source.subscribe();
            while let Ok(value) = values.next().await {
                let at = Instant::now();
                let _ = sender.send((at, String::from_utf8_lossy(&value.content).into_owned()));
            }
        });
    });
    let native = contender("native reloader", directory, |path, sender| {
        runtime.spawn(async move {
            let (service, mut receiver) = ReloaderService::<FileReloader<Text>, Text, String>::new(
                &path.display().to_string(),
                ReloaderConfig::hybrid(10),
            )
            .await
            .unwrap();
            tokio::spawn(async move { service.start_with_realtime().await });
            while receiver.changed().await.is_ok() {
                let at = Instant::now();
                let _ = sender.send((at, receiver.get().unwrap().0));
            }
        });
    });
    let handed_on = contender("handed-on: bare loop to a receiver", directory, |path, sender| {
        let (values, mut receiver) = tokio::sync::watch::channel(String::new());
        runtime.spawn(async move {
            while receiver.changed().await.is_ok() {
                let at = Instant::now();
                let _ = sender.send((at, receiver.borrow().clone()));
            }
        });
        thread::spawn(move || bare_loop(&path, |_, value| values.send(value).is_ok()));
    });
    let bare = contender("bare inotify loop", directory, |path, sender| {
        thread::spawn(move || bare_loop(&path, |at, value| sender.send((at, value)).is_ok()));
    });
    let seed = contender("hot_reload 0.3.6", directory, |path, sender| {
        runtime.spawn(async move {
            let (service, mut receiver) =
                seed::ReloaderService::<seed::FileReloader<Text>, Text, String>::new(
                    &path.display().to_string(),
                    seed::ReloaderConfig::hybrid(10),
                )
                .await
                .unwrap();
            tokio::spawn(async move { service.start_with_realtime().await });
            while receiver.changed().await.is_ok() {
                let at = Instant::now();
                let _ = sender.send((at, receiver.get().unwrap().0));
            }
        });
    });
    vec![plugin, native, handed_on, bare, seed]
}

/// Minimal hand-written implementation: waits for inotify events of the directory and reads the
/// file.
fn bare_loop(path: &Path, seen: impl Fn(Instant, String) -> bool) {
    let inotify = inotify::init(inotify::CreateFlags::empty()).unwrap();
    let directory = path.parent().unwrap();
    let events = inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&inotify, directory, events).unwrap();
    seen(Instant::now(), fs::read_to_string(path).unwrap());
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&inotify, &mut buffer);
    while let Ok(event) = reader.next() {
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
        if name.as_deref() == path.file_name() {
            let value = fs::read_to_string(path).unwrap();
            if !seen(Instant::now(), value) {
                return;
            }
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_keep, directory) = scratch();
    let contenders = contenders(&directory, &runtime);
    // `hot_reload` opens its watch after it has published its first value.
    thread::sleep(Duration::from_millis(500));
    renames(&contenders);
    bursts(&contenders);
    runtime.shutdown_background();
}

/// Measures the latency of a rename. Alternates between the implementations, so that changes in the
/// machine's load affect all of them.
fn renames(contenders: &[Contender]) {
    let mut times = vec![Vec::new(); contenders.len()];
    for turn in 0..25 {
        for (contender, times) in contenders.iter().zip(&mut times) {
            // `hot_reload` takes 200 ms for each change.
            let changes = if contender.name.starts_with("hot_reload") { 1 } else { 20 };
            for change in 0..changes {
                let value = format!("{turn} {change}");
                let before = replace(&contender.path, &value);
                let at = wait_for(&contender.values, &value);
                times.push(at.saturating_duration_since(before));
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
    let figures: Vec<_> = contenders
        .iter()
        .zip(times)
        .map(|(contender, times)| figure(contender.name, median(times)))
        .collect();
    report("rename of a file to receiver, median", "ms", &figures);
}

/// Writes a file every 50 ms for three seconds. Measures how many of the 60 values arrive, and the
/// average age of the subscriber's newest value.
fn bursts(contenders: &[Contender]) {
    let mut seen = Vec::new();
    let mut ages = Vec::new();
    for contender in contenders {
        let start = Instant::now();
        let mut written = Vec::new();
        for number in 0..60 {
            written.push(Instant::now());
            fs::write(&contender.path, format!("burst {number}")).unwrap();
            let next = start + Duration::from_millis(50) * (number + 1);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let end = Instant::now();
        let arrived: Vec<(Instant, usize)> = contender
            .values
            .try_iter()
            .filter(|(at, _)| *at < end)
            .filter_map(|(at, value)| Some((at, value.strip_prefix("burst ")?.parse().ok()?)))
            .collect();
        seen.push(figure(contender.name, arrived.len() as f64));
        ages.push(figure(contender.name, average_age(start, end, &written, &arrived)));
        if arrived.last().is_none_or(|(_, number)| *number < 59) {
            wait_for(&contender.values, "burst 59");
        }
    }
    report("written every 50 ms for 3 s: values seen, of 60", "values", &seen);
    report("written every 50 ms for 3 s: age of the newest value, average", "ms", &ages);
}

/// Returns the average age of the newest value, sampled every millisecond. The age is the time since
/// the write of the value. Before the first value arrives, it is the time since `start`.
fn average_age(
    start: Instant,
    end: Instant,
    written: &[Instant],
    arrived: &[(Instant, usize)],
) -> f64 {
    let samples = (end - start).as_millis() as u32;
    let total: Duration = (0..samples)
        .map(|millisecond| {
            let now = start + Duration::from_millis(millisecond.into());
            let newest = arrived.iter().take_while(|(at, _)| *at <= now).last();
            now.saturating_duration_since(newest.map_or(start, |(_, number)| written[*number]))
        })
        .sum();
    total.as_secs_f64() * 1e3 / f64::from(samples)
}

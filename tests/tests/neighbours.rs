//! Hostile sources beside good ones, in one runtime on one worker thread: the good ones get every update.
//! How soon is for the benchmark of the same name; here each has to be there before an attack that goes
//! on for as long as the test takes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use e2e::{PATIENCE, guest, program, text_guest, wait_until};
use reloader_host::{
    Plugin, PluginHost, Source, Strategy, Subscription,
    counters::Counters,
    plugin::{Cache, Limits},
};
use std::{fs, path::Path, sync::Arc, thread, time::Duration};
use tokio::time::timeout;

/// Renames at each attack.
const UPDATES: u32 = 20;
/// Good sources beside it.
const GOOD: usize = 3;

async fn runtime() -> PluginHost {
    let cache = Cache::at(program().with_file_name("e2e-cache").join("reloader-host"));
    // So that an attack is at work all the time, and not in quarantine.
    let limits = Limits { call_cpu: Duration::from_secs(60), ..Limits::default() };
    PluginHost::builder().cache(cache).limits(limits).build().unwrap()
}

/// Some files, each followed by a source.
async fn good_sources(runtime: &PluginHost, folder: &Path) -> Vec<(Source, Subscription)> {
    let plugin = runtime.load("file").await.unwrap();
    let start = |number: usize| {
        let path = folder.join(number.to_string());
        fs::write(&path, "first").unwrap();
        let source = plugin.source("good").set("path", path.display().to_string());
        let source = source.strategy(Strategy::Realtime).start().unwrap();
        let values = source.subscribe();
        (source, values)
    };
    (0..GOOD).map(start).collect()
}

/// Waits until a reader has seen this value.
async fn sees(values: &mut Subscription, wanted: &str, beside: &str) {
    let seen = async {
        loop {
            let value = values.next().await.unwrap();
            if value.content == wanted.as_bytes() {
                return;
            }
        }
    };
    assert!(timeout(PATIENCE, seen).await.is_ok(), "{wanted:?} was not seen beside {beside}");
}

/// Lets it work beside the good ones; each of their updates arrives.
async fn beside(runtime: &PluginHost, hostile: &Plugin, settings: &[(&str, &str)], when: Strategy) {
    let folder = tempfile::tempdir().unwrap();
    let mut good = good_sources(runtime, folder.path()).await;
    let name = format!("{} {settings:?}", hostile.description().name);
    for (_, values) in &mut good {
        sees(values, "first", &name).await;
    }
    let mut source = hostile.source("hostile").interval(Duration::from_millis(5)).strategy(when);
    for (name, value) in settings {
        source = source.set(name, *value);
    }
    let hostile = source.start().unwrap();
    for update in 0..UPDATES {
        for (number, (_, values)) in good.iter_mut().enumerate() {
            let value = format!("{number} {update}");
            let new = folder.path().join("new");
            fs::write(&new, &value).unwrap();
            fs::rename(&new, folder.path().join(number.to_string())).unwrap();
            sees(values, &value, &name).await;
        }
    }
    timeout(PATIENCE, hostile.stop()).await.unwrap_or_else(|_| panic!("{name} does not stop"));
    for (source, _) in good {
        source.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_does_something_bad_delays_nobody_for_ever() {
    let runtime = runtime().await;
    let restless = runtime.load(&guest("restless").display().to_string()).await.unwrap();
    let reading = [
        "spin",
        "sleep",
        "nap",
        "busy-wait",
        "busy-calls",
        "recurse",
        "grow",
        "huge",
        "full",
        "huge-failure",
        "random-flood",
        "headers",
        "pollables",
        "log-flood",
        "print-flood",
        "trap",
        "trap-later",
        "panic",
        "never-again",
    ];
    for deed in reading {
        beside(&runtime, &restless, &[("deed", deed)], Strategy::Polling).await;
    }
    for deed in ["spin", "sleep", "dirty", "alive", "distinct", "removed", "full", "trap"] {
        let settings = [("deed", deed), ("when", "next")];
        beside(&runtime, &restless, &settings, Strategy::Realtime).await;
    }
    for (deed, when) in [("spin", "open"), ("spin", "arm"), ("trap", "open"), ("trap", "arm")] {
        beside(&runtime, &restless, &[("deed", deed), ("when", when)], Strategy::Hybrid).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_no_compiler_would_make_delays_nobody_for_ever_either() {
    let runtime = runtime().await;
    for name in ["start-spin", "realloc-spin", "after-return", "memory-grow", "fill", "recurse"] {
        let plugin = runtime.load(&text_guest(name).display().to_string()).await.unwrap();
        beside(&runtime, &plugin, &[], Strategy::Polling).await;
    }
    for name in ["next-at-once", "fill-at-times", "a-little-often"] {
        let plugin = runtime.load(&text_guest(name).display().to_string()).await.unwrap();
        beside(&runtime, &plugin, &[], Strategy::Realtime).await;
    }
}

/// As many at once as there is no processor for.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_at_once_delay_nobody_for_ever() {
    let runtime = runtime().await;
    let restless = runtime.load(&guest("restless").display().to_string()).await.unwrap();
    let spinning: Vec<_> =
        (0..8).map(|_| restless.source("spinning").set("deed", "spin").start().unwrap()).collect();
    beside(&runtime, &restless, &[("deed", "busy-calls")], Strategy::Polling).await;
    for source in spinning {
        source.stop().await;
    }
}

/// Nobody is put into quarantine for what others do.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_had_no_turn_in_time_has_failed_and_not_crashed() {
    let runtime = runtime().await;
    let restless = runtime.load(&guest("restless").display().to_string()).await.unwrap();
    let spin = |name| restless.source(name).set("deed", "spin");
    let processors = thread::available_parallelism().unwrap().get();
    let spinning: Vec<_> =
        (0..20 * processors).map(|_| spin("spinning").start().unwrap()).collect();
    let counters = Arc::new(Counters::default());
    let limits = Limits {
        call_timeout: Duration::from_millis(500),
        call_cpu: Duration::from_secs(60),
        ..Limits::default()
    };
    let source = spin("kept waiting").limits(limits).counters(Arc::clone(&counters));
    let source = source.start().unwrap();
    let failures = |kind| {
        let failures = counters.read().read_failures;
        failures.into_iter().find(|(name, _)| *name == kind).unwrap().1
    };
    wait_until("it fails", || failures("transient") > 0);
    assert_eq!(failures("crashed"), 0);
    let why = source.subscribe().state().failing.unwrap();
    assert!(why.contains("had too little of a processor to answer in time: limit"), "{why}");
    for source in spinning {
        source.stop().await;
    }
    source.stop().await;
}

//! Isolation between sources: hostile and good sources run in one runtime on one worker thread, and
//! the good ones receive each update during the attack. The benchmark of the same name measures the
//! latency.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use e2e::{WAIT_TIMEOUT, guest, program, text_guest, wait_until};
use reloader_host::{
    Plugin, PluginHost, Source, Strategy, Subscription,
    counters::Counters,
    plugin::{Cache, Limits},
};
use std::{fs, path::Path, sync::Arc, thread, time::Duration};
use tokio::time::timeout;

/// Number of updates of each good source during an attack.
const UPDATES: u32 = 20;
/// Number of good sources.
const GOOD_SOURCES: usize = 3;

async fn runtime() -> PluginHost {
    let cache = Cache::at(program().with_file_name("e2e-cache").join("reloader-host"));
    // A high CPU limit keeps the attack running: it is not interrupted and not quarantined.
    let limits = Limits { call_cpu: Duration::from_secs(60), ..Limits::default() };
    PluginHost::builder().cache(cache).limits(limits).build().unwrap()
}

/// Starts the good sources, each of which watches a file.
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
    (0..GOOD_SOURCES).map(start).collect()
}

/// Waits until a subscriber has received this value.
async fn wait_for_update(values: &mut Subscription, wanted: &str, beside: &str) {
    let seen = async {
        loop {
            let value = values.next().await.unwrap();
            if value.content == wanted.as_bytes() {
                return;
            }
        }
    };
    assert!(timeout(WAIT_TIMEOUT, seen).await.is_ok(), "{wanted:?} was not seen beside {beside}");
}

/// Runs an attack beside the good sources and asserts that each of their updates arrives.
async fn attack_beside_good_sources(
    runtime: &PluginHost,
    hostile: &Plugin,
    settings: &[(&str, &str)],
    when: Strategy,
) {
    let folder = tempfile::tempdir().unwrap();
    let mut good = good_sources(runtime, folder.path()).await;
    let name = format!("{} {settings:?}", hostile.description().name);
    for (_, values) in &mut good {
        wait_for_update(values, "first", &name).await;
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
            wait_for_update(values, &value, &name).await;
        }
    }
    timeout(WAIT_TIMEOUT, hostile.stop()).await.unwrap_or_else(|_| panic!("{name} does not stop"));
    for (source, _) in good {
        source.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hostile_deeds_do_not_starve_others() {
    let runtime = runtime().await;
    let restless = runtime.load(&guest("restless").display().to_string()).await.unwrap();
    let reading = [
        "infinite-loop",
        "sleep",
        "compute-and-sleep",
        "busy-wait",
        "busy-calls",
        "infinite-recursion",
        "memory-growth",
        "oversized-value",
        "max-size-values",
        "oversized-failure",
        "random-flood",
        "header-flood",
        "pollable-exhaustion",
        "log-flood",
        "print-flood",
        "trap",
        "trap-every-second-call",
        "panic",
        "max-retry-delay",
    ];
    for deed in reading {
        attack_beside_good_sources(&runtime, &restless, &[("deed", deed)], Strategy::Polling).await;
    }
    for deed in [
        "infinite-loop",
        "sleep",
        "dirty",
        "alive",
        "distinct-values",
        "removed",
        "max-size-values",
        "trap",
    ] {
        let settings = [("deed", deed), ("when", "next")];
        attack_beside_good_sources(&runtime, &restless, &settings, Strategy::Realtime).await;
    }
    for (deed, when) in
        [("infinite-loop", "open"), ("infinite-loop", "arm"), ("trap", "open"), ("trap", "arm")]
    {
        attack_beside_good_sources(
            &runtime,
            &restless,
            &[("deed", deed), ("when", when)],
            Strategy::Hybrid,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hostile_components_do_not_starve_others() {
    let runtime = runtime().await;
    for name in [
        "start-infinite-loop",
        "realloc-infinite-loop",
        "infinite-loop-after-return",
        "memory-growth-by-pages",
        "memory-fill",
        "stack-overflow",
    ] {
        let plugin = runtime.load(&text_guest(name).display().to_string()).await.unwrap();
        attack_beside_good_sources(&runtime, &plugin, &[], Strategy::Polling).await;
    }
    for name in ["event-flood", "periodic-memory-fill", "frequent-short-computation"] {
        let plugin = runtime.load(&text_guest(name).display().to_string()).await.unwrap();
        attack_beside_good_sources(&runtime, &plugin, &[], Strategy::Realtime).await;
    }
}

/// More computing guests run than the machine has CPUs.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_hostile_sources_do_not_starve_others() {
    let runtime = runtime().await;
    let restless = runtime.load(&guest("restless").display().to_string()).await.unwrap();
    let spinning: Vec<_> = (0..8)
        .map(|_| restless.source("spinning").set("deed", "infinite-loop").start().unwrap())
        .collect();
    attack_beside_good_sources(&runtime, &restless, &[("deed", "busy-calls")], Strategy::Polling)
        .await;
    for source in spinning {
        source.stop().await;
    }
}

/// A source that gets no CPU time because of other sources is not quarantined.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn starved_call_is_transient_failure() {
    let runtime = runtime().await;
    let restless = runtime.load(&guest("restless").display().to_string()).await.unwrap();
    let spin = |name| restless.source(name).set("deed", "infinite-loop");
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
    wait_until("a transient failure", || failures("transient") > 0);
    assert_eq!(failures("crashed"), 0);
    let why = source.subscribe().state().failing.unwrap();
    assert!(why.contains("got too little CPU time to answer in time: limit"), "{why}");
    for source in spinning {
        source.stop().await;
    }
    source.stop().await;
}

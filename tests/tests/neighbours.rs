//! Isolation between sources: hostile and good sources run in one runtime on one worker thread, and
//! the good ones receive each update during the attack. The benchmark of the same name measures the
//! latency.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use e2e::{WAIT_TIMEOUT, guest, plugin_cache, text_guest, wait_until};
use reloader_host::{
    Plugin, PluginHost, Source, Strategy, Subscription,
    metrics::Counters,
    plugin::{Cache, Limits},
};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::{runtime::Builder, time::timeout};

/// Number of updates of each good source during an attack.
const UPDATES: u32 = 20;
/// Number of good sources that run beside an attack.
const GOOD_SOURCES: usize = 3;

/// Runs a test on one worker thread, while no other test of this process runs: an attack occupies
/// all CPUs.
fn run_alone(test: impl Future<Output = ()>) {
    static RUNNING: Mutex<()> = Mutex::new(());
    // A failed test poisons the mutex. The other tests must run nevertheless.
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let tokio = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    tokio.block_on(test);
}

fn runtime() -> PluginHost {
    let cache = Cache::at(plugin_cache());
    // With a high CPU limit, the host neither interrupts nor quarantines the hostile source.
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

/// Runs an attack of the guest `attacker` beside good sources, and asserts that their updates arrive.
fn assert_attack_isolated(settings: &[(&str, &str)], strategy: Strategy) {
    run_alone(async {
        let runtime = runtime();
        let plugin = runtime.load(&guest("attacker").display().to_string()).await.unwrap();
        attack_beside_good_sources(&runtime, &plugin, settings, strategy).await;
    });
}

fn assert_read_isolated(attack: &str) {
    assert_attack_isolated(&[("attack", attack)], Strategy::Polling);
}

e2e::cases! {
    mod hostile_read_does_not_starve_others: assert_read_isolated {
        infinite_loop("infinite-loop");
        sleep("sleep");
        compute_and_sleep("compute-and-sleep");
        busy_wait("busy-wait");
        busy_calls("busy-calls");
        infinite_recursion("infinite-recursion");
        memory_growth("memory-growth");
        oversized_value("oversized-value");
        max_size_values("max-size-values");
        oversized_failure("oversized-failure");
        random_flood("random-flood");
        header_flood("header-flood");
        pollable_exhaustion("pollable-exhaustion");
        log_flood("log-flood");
        print_flood("print-flood");
        trap("trap");
        trap_every_second_call("trap-every-second-call");
        panic("panic");
        max_retry_delay("max-retry-delay");
    }
}

fn assert_watch_isolated(attack: &str) {
    assert_attack_isolated(&[("attack", attack), ("when", "next")], Strategy::Realtime);
}

e2e::cases! {
    mod hostile_watch_does_not_starve_others: assert_watch_isolated {
        infinite_loop("infinite-loop");
        sleep("sleep");
        dirty("dirty");
        alive("alive");
        distinct_values("distinct-values");
        removed("removed");
        max_size_values("max-size-values");
        trap("trap");
    }
}

fn assert_start_isolated(attack: &str, when: &str) {
    assert_attack_isolated(&[("attack", attack), ("when", when)], Strategy::Hybrid);
}

e2e::cases! {
    mod hostile_start_does_not_starve_others: assert_start_isolated {
        infinite_loop_in_open("infinite-loop", "open");
        infinite_loop_in_arm("infinite-loop", "arm");
        trap_in_open("trap", "open");
        trap_in_arm("trap", "arm");
    }
}

fn assert_text_guest_isolated(name: &str, strategy: Strategy) {
    run_alone(async {
        let runtime = runtime();
        let plugin = runtime.load(&text_guest(name).display().to_string()).await.unwrap();
        attack_beside_good_sources(&runtime, &plugin, &[], strategy).await;
    });
}

e2e::cases! {
    mod hostile_component_does_not_starve_others: assert_text_guest_isolated {
        start_infinite_loop("start-infinite-loop", Strategy::Polling);
        realloc_infinite_loop("realloc-infinite-loop", Strategy::Polling);
        infinite_loop_after_return("infinite-loop-after-return", Strategy::Polling);
        memory_growth_by_pages("memory-growth-by-pages", Strategy::Polling);
        memory_fill("memory-fill", Strategy::Polling);
        stack_overflow("stack-overflow", Strategy::Polling);
        event_flood("event-flood", Strategy::Realtime);
        periodic_memory_fill("periodic-memory-fill", Strategy::Realtime);
        frequent_short_computation("frequent-short-computation", Strategy::Realtime);
    }
}

/// Eight further sources compute without end during the attack.
#[test]
fn many_hostile_sources_do_not_starve_others() {
    run_alone(attack_beside_many_loops());
}

async fn attack_beside_many_loops() {
    let runtime = runtime();
    let attacker = runtime.load(&guest("attacker").display().to_string()).await.unwrap();
    let spinning: Vec<_> = (0..8)
        .map(|_| attacker.source("spinning").set("attack", "infinite-loop").start().unwrap())
        .collect();
    attack_beside_good_sources(&runtime, &attacker, &[("attack", "busy-calls")], Strategy::Polling)
        .await;
    for source in spinning {
        source.stop().await;
    }
}

/// A source that gets no CPU time because of other sources is not quarantined.
#[test]
fn starved_call_is_transient_failure() {
    run_alone(starve_call());
}

async fn starve_call() {
    let runtime = runtime();
    let attacker = runtime.load(&guest("attacker").display().to_string()).await.unwrap();
    let spin = |name| attacker.source(name).set("attack", "infinite-loop");
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

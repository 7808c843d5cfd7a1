//! Tests of watching: arming, change notifications, loss and reopening of the watch.

use super::harness::*;
use crate::{
    Effect, Input, Report,
    types::{Event, Failure, FailureKind, Strategy},
};
use std::time::Duration;

/// The fetch is unconditional, so that it finds a change that happened before the watch was armed.
#[test]
fn armed_watch_triggers_fetch() {
    let mut bench = bench(Strategy::Realtime);
    let watch =
        bench.answer(changed("a")).opening().expect("the watch opens after the first fetch");
    bench.step(Input::Armed(watch));
    assert_eq!(bench.fetch().expect("a fetch").1, None, "the fetch is unconditional");
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);

    bench.step(Input::WatchLost(watch, transient_failure())).wait_for_deadline();
    let again = bench.opening().expect("reopened");
    assert!(bench.step(Input::Armed(again)).fetch().is_some());
}

/// The result of the fetch in flight may be from before the arming of the watch.
#[test]
fn watch_armed_during_fetch_triggers_refetch() {
    let mut bench = bench(Strategy::Hybrid);
    let watch =
        bench.answer(changed("a")).opening().expect("the watch opens after the first fetch");
    let (second, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    assert_eq!(bench.step(Input::Armed(watch)).fetch(), None);
    bench.step(Input::Fetched(second, changed("b")));
    assert_eq!(bench.published(), ["b"]);
    assert!(bench.fetch().is_some(), "the fetched value may be older than the watch");
}

#[test]
fn dirty_event_triggers_unconditional_fetch() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Dirty));
    assert_eq!(bench.fetch().expect("a fetch").1, None);
}

#[test]
fn dirty_event_during_fetch_triggers_refetch() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Dirty));
    let (session, _) = bench.fetch().expect("in flight");
    assert_eq!(bench.step(Input::Watched(watch, Event::Dirty)).fetch(), None);
    bench.step(Input::Fetched(session, changed("b")));
    assert_eq!(bench.published(), ["b"]);
    assert_eq!(bench.answer(changed("c")).published(), ["c"]);
    assert_eq!(bench.fetch(), None);
}

/// The retry after a failed fetch skips the backoff if the source changed during the fetch.
#[test]
fn dirty_event_during_failing_fetch_retried_at_once() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Dirty));
    let (session, _) = bench.fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Dirty));
    bench.step(Input::Fetched(session, Err(transient_failure())));
    assert_eq!(bench.fetch().expect("immediate retry").1, None);
}

#[test]
fn live_watch_reconciled_at_its_interval() {
    let (mut bench, watch) = watching_bench(Strategy::Realtime);
    // The jitter can shorten the first period after the start to 10 %, so the test skips it.
    bench.wait_for_fetch_with_alive_events(watch).answer(changed("a"));
    let before = bench.now;
    bench.wait_for_fetch_with_alive_events(watch);
    let period = (bench.now - before).as_secs();
    assert!((270..=330).contains(&period), "{period} s");
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);
}

#[test]
fn lost_watch_reopened_with_delay() {
    let (mut bench, watch) = watching_bench(Strategy::Realtime);
    bench.step(Input::WatchLost(watch, transient_failure()));
    assert_eq!(bench.opening(), None);
    let lost_at = bench.now;
    assert_ne!(bench.wait_for_opening(), watch);
    assert!(bench.now - lost_at <= Duration::from_millis(100), "{:?}", bench.now - lost_at);
}

#[test]
fn silent_watch_reopened_and_source_fetched() {
    let mut settings = settings(Strategy::Realtime);
    settings.stale_after = Duration::from_secs(1000);
    let mut bench = bench_with_settings(settings);
    bench.settle();
    bench.wait(Duration::from_secs(59));
    assert!(!bench.effects.contains(&Effect::CloseWatch));
    bench.wait(Duration::from_secs(1));
    assert!(bench.effects.contains(&Effect::CloseWatch));
    assert!(bench.fetch().is_some());
    bench.wait(Duration::from_secs(1));
    assert!(bench.opening().is_some());
}

#[test]
fn short_lived_watch_backs_off() {
    let mut bench = bench(Strategy::Realtime);
    let start = bench.now;
    bench.answer(changed("a"));
    let mut opened = 0;
    while bench.now < start + Duration::from_secs(60) {
        if let Some(watch) = bench.opening() {
            opened += 1;
            bench.step(Input::Armed(watch));
            bench.step(Input::Watched(watch, Event::Alive));
            bench.step(Input::WatchLost(watch, transient_failure()));
        }
        bench.wait_for_deadline();
    }
    assert!(opened < 40, "{opened} times in a minute");
}

/// An event after 5 s proves that the watch works, and resets its backoff.
#[test]
fn stable_watch_reopened_quickly() {
    let (mut bench, mut watch) = watching_bench(Strategy::Realtime);
    for _ in 0..20 {
        bench.step(Input::WatchLost(watch, transient_failure()));
        let lost_at = bench.now;
        watch = bench.wait_for_opening();
        assert!(bench.now - lost_at <= Duration::from_millis(100), "{:?}", bench.now - lost_at);
        bench.step(Input::Armed(watch));
        bench.wait(Duration::from_secs(5)).step(Input::Watched(watch, Event::Alive));
    }
}

#[test]
fn armed_watch_reported() {
    let mut bench = bench(Strategy::Realtime);
    let watch = bench.answer(changed("a")).opening().expect("opening");
    bench.step(Input::Armed(watch));
    assert!(bench.effects.contains(&Effect::Report(Report::Watching)), "{:?}", bench.effects);
}

/// The engine gives up if the watch of a `realtime` source fails permanently before it was ever armed.
/// It continues if the watch was armed before, or if the strategy is `hybrid`.
#[test]
fn realtime_source_that_cannot_be_watched_gives_up() {
    let permanent = || Failure::permanent("not supported");
    let mut realtime = bench(Strategy::Realtime);
    let watch = realtime.answer(changed("a")).opening().expect("opening");
    realtime.step(Input::WatchLost(watch, permanent()));
    let message = "the source cannot be watched (strategy realtime): not supported";
    assert_eq!(realtime.effects, [Effect::GiveUp(Failure::new(FailureKind::Config, message))]);

    let (mut armed, watch) = watching_bench(Strategy::Realtime);
    armed.step(Input::WatchLost(watch, permanent()));
    assert!(armed.engine.deadline().is_some(), "the watch worked before");

    let mut hybrid = bench(Strategy::Hybrid);
    let watch = hybrid.answer(changed("a")).opening().expect("opening");
    hybrid.step(Input::WatchLost(watch, permanent()));
    assert!(hybrid.engine.deadline().is_some(), "the source is polled");
}

//! Tests of freshness: confirmations, staleness and its reasons. The tests of staleness after a crash
//! are in `crash_quarantine`.

use super::harness::*;
use crate::{
    Effect, Engine, Input, Report, UNCONFIRMED,
    types::{Event, Outcome, Strategy},
};
use std::time::{Duration, Instant};

/// Returns a started bench with the value `a` from before a restart.
fn resumed() -> Bench {
    let now = Instant::now();
    let engine = Engine::new(settings(Strategy::Polling), 7, now);
    started(engine.resume(1.into(), Some(value("a"))), now)
}

#[test]
fn resumed_value_stale_until_confirmation() {
    let mut bench = resumed();
    assert_eq!(bench.stale_reasons(), [UNCONFIRMED]);
    assert_eq!(bench.answer(Ok(Outcome::Unchanged)).effects, [Effect::Fresh]);
    assert_eq!(bench.confirmations, 1);
}

#[test]
fn failure_replaces_unconfirmed_reason_once() {
    let mut bench = resumed();
    assert_eq!(bench.answer(Err(transient_failure())).stale_reasons(), ["broken"]);
    bench.wait_for_fetch().answer(Err(transient_failure()));
    assert_eq!(bench.stale_reasons(), [""; 0]);
}

#[test]
fn alive_events_keep_value_fresh() {
    let mut settings = settings(Strategy::Realtime);
    settings.reconcile = Duration::from_secs(100_000);
    let mut bench = bench_with_settings(settings);
    let watch = bench.settle().expect("watching");
    for _ in 0..20 {
        bench.now += Duration::from_secs(50);
        bench.step(Input::Watched(watch, Event::Alive));
        assert_eq!(bench.effects, []);
    }
}

#[test]
fn failures_make_value_stale_until_success() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Err(transient_failure()));
    let mut stale = 0;
    for _ in 0..60 {
        bench.wait(Duration::from_secs(1));
        stale += bench.stale_reasons().len();
        assert_eq!(bench.published(), [""; 0]);
        if bench.fetch().is_some() {
            bench.answer(Err(transient_failure()));
        }
    }
    assert_eq!(stale, 1, "staleness is reported once");
    bench.wait_for_fetch().answer(changed("a"));
    assert_eq!(bench.effects, [Effect::Report(Report::Recovered), Effect::Fresh]);
}

#[test]
fn value_stale_at_its_limit() {
    let mut settings = settings(Strategy::Polling);
    settings.stale_after = Duration::from_secs(40);
    let mut bench = bench_with_settings(settings);
    bench.answer(changed("a"));
    let confirmed_at = bench.now;
    bench.wait_for_fetch();
    bench.wait(Duration::from_millis(39_999) - (bench.now - confirmed_at));
    assert_eq!(bench.stale_reasons(), [""; 0]);
    bench.wait_for_deadline();
    assert_eq!(bench.now - confirmed_at, Duration::from_secs(40));
    assert_eq!(bench.stale_reasons(), ["the source has not answered"]);
}

/// While a watch is live, the value becomes stale only after twice the liveness limit, if that is
/// longer than `stale_after`.
#[test]
fn live_watch_extends_staleness_limit() {
    let mut settings = settings(Strategy::Realtime);
    (settings.liveness, settings.reconcile) = (Duration::from_secs(3600), HOUR * 24);
    let mut bench = bench_with_settings(settings.clone());
    bench.settle();
    bench.wait(Duration::from_secs(3599));
    assert_eq!(bench.stale_reasons(), [""; 0]);

    // Without a live watch the limit is `stale_after`.
    let mut bench = bench_with_settings(settings);
    bench.answer(changed("a")).wait(Duration::from_secs(30));
    assert_eq!(bench.stale_reasons().len(), 1);
}

/// After a dirty event, an alive event confirms the value only once a fetch or a watch event has
/// reported the current value.
#[test]
fn alive_with_unreported_change_confirms_nothing() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Dirty));
    let (session, _) = bench.fetch().expect("in flight");
    bench.confirmations = 0;
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 0);
    bench.step(Input::Fetched(session, changed("a")));
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 2);
    // After a failed fetch, a watch event reports the announced change.
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Err(transient_failure()));
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 4);
}

#[test]
fn alive_during_failure_confirms_nothing() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    // The reconcile poll fails; no change was announced.
    bench.wait_for_fetch_with_alive_events(watch).answer(Err(transient_failure()));
    bench.confirmations = 0;
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 0);
    bench.wait_for_fetch().answer(changed("a"));
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 2);
}

#[test]
fn alive_with_rejected_value_confirms_nothing() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.validate = |_| Err(transient_failure());
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    bench.confirmations = 0;
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 0);
}

#[test]
fn alive_with_pending_removal_confirms_nothing() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Removed));
    bench.confirmations = 0;
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 0);
}

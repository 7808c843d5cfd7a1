//! Tests of the hybrid fallback: polling while the watch is down.

use super::harness::*;
use crate::{
    Input,
    types::{Outcome, Strategy},
};
use std::time::Duration;

/// With strategy `hybrid`, the loss of the watch replaces the reconcile poll by an earlier poll. With strategy
/// `realtime`, it does not change the time of the reconcile poll.
#[test]
fn lost_watch_starts_polling_in_hybrid() {
    let (mut hybrid, watch) = watching_bench(Strategy::Hybrid);
    assert!(hybrid.next_fetch_in() > Duration::from_secs(20), "reconcile poll");
    hybrid.step(Input::WatchLost(watch, transient_failure()));
    assert!(hybrid.next_fetch_in() < Duration::from_secs(11), "poll");

    let (mut realtime, watch) = watching_bench(Strategy::Realtime);
    let reconcile_at = realtime.engine.next_fetch();
    realtime.step(Input::WatchLost(watch, transient_failure()));
    assert_eq!(realtime.engine.next_fetch(), reconcile_at);
}

#[test]
fn hybrid_polls_while_watch_cannot_be_opened() {
    let mut bench = bench(Strategy::Hybrid);
    bench.answer(changed("a"));
    for _ in 0..10 {
        let before = bench.now;
        for _ in 0..100 {
            if let Some(watch) = bench.opening() {
                bench.step(Input::WatchLost(watch, transient_failure()));
            }
            if bench.fetch().is_some() {
                break;
            }
            bench.wait_for_deadline();
        }
        let period = bench.now - before;
        assert!(period <= Duration::from_secs(11), "{period:?}");
        bench.answer(Ok(Outcome::Unchanged));
    }
}

#[test]
fn reopened_watch_ends_polling() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::WatchLost(watch, transient_failure()));
    let watch = bench.wait_for_opening();
    bench.step(Input::Armed(watch)).answer(changed("a"));
    assert!(bench.next_fetch_in() > Duration::from_secs(200), "{:?}", bench.next_fetch_in());
}

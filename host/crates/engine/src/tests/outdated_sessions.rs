//! Tests of outdated session numbers: inputs of cancelled fetches and of lost watches.

use super::harness::*;
use crate::{
    Input,
    types::{Event, Strategy},
};
use std::time::Duration;

/// A fetch exceeds its deadline. Its late result is ignored before and during the next fetch.
#[test]
fn late_result_of_cancelled_fetch_ignored() {
    let mut bench = bench(Strategy::Polling);
    let (cancelled, _) = bench.fetch().expect("in flight");
    bench.wait(Duration::from_secs(60));
    bench.step(Input::Fetched(cancelled, changed("late")));
    assert_eq!(bench.effects, [], "no fetch is in flight");
    let (current, _) = bench.wait_for_fetch().fetch().expect("in flight");
    bench.step(Input::Fetched(cancelled, changed("late")));
    assert_eq!(bench.effects, [], "another fetch is in flight");
    bench.step(Input::Fetched(current, changed("a")));
    assert_eq!(bench.published(), ["a"]);
}

#[test]
fn late_event_of_lost_watch_ignored() {
    let (mut bench, watch) = watching_bench(Strategy::Realtime);
    bench.step(Input::WatchLost(watch, transient_failure()));
    bench.step(Input::Watched(watch, Event::Changed(value("late"))));
    assert_eq!(bench.published(), [""; 0]);
    assert!(bench.step(Input::Armed(watch)).effects.is_empty());
}

/// Inputs of the previous watch have no effect while the current watch is opening, and while it is
/// live.
#[test]
fn late_input_of_previous_watch_ignored() {
    let (mut bench, previous) = watching_bench(Strategy::Hybrid);
    bench.step(Input::WatchLost(previous, transient_failure()));
    let current = bench.wait_for_opening();
    let late_inputs = [
        Input::Armed(previous),
        Input::Watched(previous, Event::Changed(value("late"))),
        Input::Watched(previous, Event::Dirty),
        Input::WatchLost(previous, transient_failure()),
    ];
    for input in late_inputs.clone() {
        assert_eq!(bench.step(input).effects, [], "opening");
    }
    bench.step(Input::Armed(current)).answer(changed("a"));
    for input in late_inputs {
        assert_eq!(bench.step(input).effects, [], "live");
    }
    bench.step(Input::Watched(current, Event::Changed(value("b"))));
    assert_eq!(bench.published(), ["b"]);
}

#[test]
fn late_alive_event_does_not_extend_liveness() {
    let (mut bench, previous) = watching_bench(Strategy::Realtime);
    bench.step(Input::WatchLost(previous, transient_failure()));
    let current = bench.wait_for_opening();
    bench.step(Input::Armed(current)).answer(changed("a"));
    bench.wait(Duration::from_secs(59)).step(Input::Watched(previous, Event::Alive));
    bench.wait(Duration::from_secs(1));
    assert!(bench.effects.contains(&crate::Effect::CloseWatch), "{:?}", bench.effects);
}

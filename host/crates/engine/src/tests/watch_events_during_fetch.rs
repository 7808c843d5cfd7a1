//! Tests of values that the watch reports while a fetch is in flight.

use super::harness::*;
use crate::{
    Input,
    types::{Event, Outcome, Strategy},
};

/// A fetch result equal to the value before the watch event counts as older.
#[test]
fn older_fetch_result_keeps_watch_value() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::ReloadNow);
    let (session, _) = bench.fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    assert_eq!(bench.published(), ["new"]);
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.fetch(), None, "the fetch result counts as older");
    // If the source has changed back to `a`, the next poll returns `a`, even without a watch event.
    bench.wait_for_fetch_with_alive_events(watch);
    assert_eq!(bench.fetch().expect("due").1, None, "the poll is unconditional");
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

/// `Unchanged` refers to the value before the watch event, so it counts as older than the event.
#[test]
fn unchanged_result_after_watch_event_keeps_watch_value() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    bench.step(Input::Fetched(session, Ok(Outcome::Unchanged)));
    assert_eq!((bench.published(), bench.fetch()), (vec![], None));
    bench.wait_for_fetch_with_alive_events(watch);
    assert_eq!(bench.fetch().expect("due").1, None, "the poll is unconditional");
}

/// A fetch result equal to the value before the first of several watch events counts as older than
/// all of them.
#[test]
fn several_watch_events_during_fetch_keep_last_value() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    bench.step(Input::Watched(watch, Event::Changed(value("c"))));
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!((bench.published(), bench.fetch()), (vec![], None));
}

#[test]
fn fetch_result_equal_to_watch_ignored() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    bench.step(Input::Fetched(session, changed("new")));
    assert_eq!(bench.effects, []);
}

/// A fetch result that equals neither the value before the watch event nor the value of the event
/// may be older or newer than the event.
#[test]
fn ambiguous_fetch_result_triggers_refetch() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    bench.step(Input::Fetched(session, changed("newer?")));
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.answer(changed("newer")).published(), ["newer"]);
}

#[test]
fn watch_event_before_fetch_is_not_concurrent() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    bench.step(Input::ReloadNow).answer(changed("a"));
    assert_eq!(bench.published(), ["a"], "the fetch started after the event");
}

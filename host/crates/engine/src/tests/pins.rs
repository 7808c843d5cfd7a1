//! Tests of pinned values.

use super::harness::*;
use crate::{
    Effect, Engine, Input, Report,
    types::{Event, Outcome, Strategy},
};
use std::time::{Duration, Instant};

#[test]
fn pin_discards_value_in_validation() {
    let (mut engine, validation, now) = super::validation::validating();
    engine.step(now, Input::Pin(value("p")));
    assert_eq!(engine.step(now, Input::Validated(validation, Ok(()))), []);
}

#[test]
fn removal_during_pin_held_back() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Pin(value("p")));
    bench.step(Input::Watched(watch, Event::Removed)).wait(Duration::from_secs(10));
    bench.step(Input::ReloadNow).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn pin_survives_restart() {
    let now = Instant::now();
    let engine = Engine::new(settings(Strategy::Polling), 7, now)
        .resume(2.into(), Some(value("p")))
        .pinned();
    let mut bench = started(engine, now);
    assert!(bench.engine.is_pinned());
    assert_eq!(bench.answer(changed("a")).published(), [""; 0]);
}

#[test]
fn pin_without_value_not_resumed() {
    let now = Instant::now();
    let engine = Engine::new(settings(Strategy::Polling), 7, now).resume(2.into(), None).pinned();
    let mut bench = started(engine, now);
    assert!(!bench.engine.is_pinned());
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

/// A fetch that started during the pin sent the cursor of `a`, which the pin held back.
#[test]
fn unchanged_after_unpin_triggers_refetch() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).step(Input::Pin(value("p")));
    // The source still has `a`, and the fetch sends its cursor, although the pinned value `p` is the published one.
    let (session, _) = bench.wait_for_fetch().fetch().expect("due");
    bench.confirmations = 0;
    bench.step(Input::Unpin).step(Input::Fetched(session, Ok(Outcome::Unchanged)));
    assert_eq!(bench.confirmations, 0);
    assert_eq!(bench.fetch().expect("refetch").1, None);
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

/// Reports during the pin do not confirm the source's own value. After the unpin, a removal is
/// therefore confirmed only after the longer delay of 3 s (`confirm_after_outage`).
#[test]
fn removal_after_unpin_confirmed_later() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).step(Input::Pin(value("p")));
    bench.step(Input::ReloadNow).answer(Ok(Outcome::Absent));
    bench.step(Input::Unpin).answer(Ok(Outcome::Absent));
    bench.wait(Duration::from_secs(2)).step(Input::ReloadNow).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_secs(1)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
}

#[test]
fn first_pinned_value_stale_during_failure() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(Err(transient_failure())).step(Input::Pin(value("p")));
    assert_eq!(bench.published(), ["p"]);
    assert!(bench.effects.contains(&Effect::Stale(transient_failure())), "{:?}", bench.effects);
    bench.wait_for_fetch().answer(Ok(Outcome::Absent));
    assert!(bench.effects.contains(&Effect::Fresh), "{:?}", bench.effects);
}

#[test]
fn unpin_without_pin_has_no_effect() {
    let mut bench = bench(Strategy::Polling);
    assert_eq!(bench.answer(changed("a")).step(Input::Unpin).effects, []);
}

/// `DiffersFromPin` is reported again only after the source has reported the pinned value.
#[test]
fn held_back_value_reported_once() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Pin(value("p")));
    let mut is_reported = |content: &str| {
        bench.step(Input::Watched(watch, Event::Changed(value(content))));
        bench.effects.contains(&Effect::Report(Report::DiffersFromPin))
    };
    let reported = ["b", "c", "p", "b"].map(&mut is_reported);
    assert_eq!(reported, [true, false, false, true]);
}

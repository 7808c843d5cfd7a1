//! Tests of polling: schedule, jitter and cursors.

use super::harness::*;
use crate::{
    Effect, Engine, Input, Report,
    types::{Cursor, Outcome, Strategy},
};
use std::time::Instant;

#[test]
fn polling_fetches_at_start_and_interval() {
    let mut bench = bench(Strategy::Polling);
    assert_eq!(bench.opening(), None);
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
    assert!(bench.wait_for_deadline().fetch().is_some());
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);
    let before = bench.now;
    assert!(bench.wait_for_deadline().fetch().is_some());
    let period = bench.now - before;
    assert!((9.4..=10.6).contains(&period.as_secs_f64()), "{period:?}");
}

#[test]
fn first_polls_spread_over_interval() {
    let start = Instant::now();
    let mut first_polls: Vec<_> = (0..100)
        .map(|seed| {
            let mut bench = started(Engine::new(settings(Strategy::Polling), seed, start), start);
            bench.answer(changed("a")).wait_for_deadline();
            (bench.now - start).as_millis()
        })
        .collect();
    first_polls.sort_unstable();
    first_polls.dedup();
    assert!(first_polls.len() > 90, "{first_polls:?}");
    assert!(first_polls[90] - first_polls[5] > 6_000, "the polls are spread over the interval");
}

/// The variation lets sources that poll at the same time drift apart.
#[test]
fn later_polls_vary_by_five_percent() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_fetch();
    let mut periods: Vec<_> = (0..100)
        .map(|_| {
            bench.answer(Ok(Outcome::Unchanged));
            let before = bench.now;
            bench.wait_for_fetch();
            (bench.now - before).as_millis()
        })
        .collect();
    periods.sort_unstable();
    assert!((9_500..=9_600).contains(&periods[0]), "{periods:?}");
    assert!((10_400..=10_500).contains(&periods[99]), "{periods:?}");
}

#[test]
fn poll_sends_cursor_of_published_value() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    assert_eq!(bench.fetch().expect("due").1, Some(Cursor::new("a")));
    assert_eq!(bench.answer(Ok(Outcome::Unchanged)).published(), [""; 0]);
}

#[test]
fn equal_value_republished_with_force_reload_only() {
    let mut quiet = bench(Strategy::Polling);
    quiet.answer(changed("a")).wait_for_deadline();
    assert_eq!(quiet.answer(changed("a")).published(), [""; 0]);

    let mut settings = settings(Strategy::Polling);
    settings.force_reload = true;
    let mut forced = bench_with_settings(settings);
    forced.answer(changed("a")).wait_for_deadline();
    assert_eq!(forced.answer(changed("a")).published(), ["a"]);
    assert_eq!(forced.wait_for_deadline().answer(Ok(Outcome::Unchanged)).published(), ["a"]);
}

#[test]
fn missing_first_value_reported_once() {
    let mut bench = bench(Strategy::Polling);
    let not_found_report = [Effect::Report(Report::NoValueYet)];
    assert_eq!(bench.answer(Ok(Outcome::Absent)).effects, not_found_report);
    bench.wait_for_deadline();
    assert_eq!(bench.answer(Ok(Outcome::Absent)).effects, []);
    bench.wait_for_deadline();
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

#[test]
fn reload_during_fetch_triggers_refetch() {
    let mut bench = bench(Strategy::Polling);
    let (session, _) = bench.fetch().expect("in flight");
    assert_eq!(bench.step(Input::ReloadNow).fetch(), None, "one fetch at a time");
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!(bench.published(), ["a"]);
    assert_eq!(bench.fetch().expect("refetch").1, None, "the refetch is unconditional");
}

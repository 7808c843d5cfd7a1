//! Tests of removals: an absent or empty value replaces a non-empty one after a confirmation.

use super::harness::*;
use crate::{
    Effect, Engine, Input, Report,
    types::{Event, Outcome, Revision, Strategy},
};
use std::time::{Duration, Instant};

#[test]
fn removal_published_after_confirmation() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_millis(200)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
    bench.step(Input::Watched(watch, Event::Dirty)).answer(changed("a"));
    assert_eq!(bench.published(), ["a"], "the value is new after its removal");
}

/// A value that returns before the confirmation of its removal stays published.
#[test]
fn short_removal_not_published() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Removed));
    bench.step(Input::Watched(watch, Event::Changed(value("a"))));
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn pending_removal_reported_once() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).step(Input::ReloadNow).answer(Ok(Outcome::Absent));
    let report =
        Effect::Report(Report::RemovalUnconfirmed { confirm_in: Duration::from_millis(200) });
    assert_eq!(bench.effects, [report]);
    bench.step(Input::ReloadNow).answer(Ok(Outcome::Absent));
    assert_eq!(bench.effects, []);
}

#[test]
fn removal_after_outage_confirmed_later() {
    let mut bench = absent_after_outage();
    assert!(bench.wait(Duration::from_secs(2)).fetch().is_none());
    bench.wait(Duration::from_secs(1)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
}

#[test]
fn empty_value_published_after_confirmation() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(changed(""));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_millis(200));
    assert_eq!(bench.answer(changed("")).published(), [""]);
}

/// The confirmation delay starts anew with the first report after the outage.
#[test]
fn outage_cancels_pending_removal() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Ok(Outcome::Absent)).wait_for_deadline();
    bench.answer(Err(transient_failure()));
    bench.wait(Duration::from_secs(10)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_secs(1)).step(Input::ReloadNow).answer(changed("a"));
    assert_eq!(bench.published(), [""; 0]);
}

/// Returns a bench whose source reported no value in the first fetch after a failed one.
fn absent_after_outage() -> Bench {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Err(transient_failure())).wait_for_fetch();
    bench.answer(Ok(Outcome::Absent));
    bench
}

/// Absent and empty are separate reports: a change between them restarts the confirmation delay.
#[test]
fn empty_after_absent_restarts_confirmation() {
    let mut bench = absent_after_outage();
    bench.step(Input::ReloadNow).answer(changed(""));
    bench.wait(Duration::from_secs(2)).step(Input::ReloadNow).answer(changed(""));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn removal_after_restart_confirmed_later() {
    let now = Instant::now();
    let engine = Engine::new(settings(Strategy::Polling), 7, now);
    let mut bench = started(engine.resume(Revision::default().next(), Some(value("a"))), now);
    bench.answer(Ok(Outcome::Absent));
    bench.wait(Duration::from_secs(2)).step(Input::ReloadNow).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_secs(1)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
}

#[test]
fn stale_reason_names_pending_removal() {
    let mut bench = absent_after_outage();
    bench.wait(Duration::from_secs(30));
    let reason = "the source reports an absent or empty value; confirmation is pending";
    assert_eq!(bench.stale_reasons(), [reason]);
}

#[test]
fn pending_removal_keeps_poll_interval() {
    let mut settings = settings(Strategy::Polling);
    settings.interval = Duration::from_secs(1);
    settings.confirm = Duration::from_secs(10);
    let mut bench = bench_with_settings(settings);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Ok(Outcome::Absent));
    assert!(bench.wait(Duration::from_secs(2)).fetch().is_some());
}

/// A weak cursor of the published value could hide the removal.
#[test]
fn fetch_during_pending_removal_is_unconditional() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_fetch().answer(Ok(Outcome::Absent));
    bench.wait(Duration::from_millis(200));
    assert_eq!(bench.fetch().expect("confirmation").1, None);
}

#[test]
fn removal_without_confirmation_delay_published_at_once() {
    let mut settings = settings(Strategy::Polling);
    settings.confirm = Duration::ZERO;
    let mut bench = bench_with_settings(settings);
    bench.answer(changed("a")).wait_for_fetch().answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
}

/// Only a fetch that starts after the confirmation delay confirms a removal.
#[test]
fn removal_confirmed_by_later_fetch_only() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    // A result that is delayed in transit confirms nothing.
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Ok(Outcome::Absent));
    let (session, _) = bench
        .step(Input::Watched(watch, Event::Dirty))
        .fetch()
        .expect("fetch after the dirty event");
    bench.wait(Duration::from_secs(1)).step(Input::Fetched(session, Ok(Outcome::Absent)));
    assert_eq!(bench.published(), [""; 0]);
    let (session, _) = bench.fetch().expect("refetch");
    // A watch event does not confirm the removal either.
    bench.step(Input::Watched(watch, Event::Removed));
    assert_eq!(bench.published(), [""; 0]);
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!(bench.answer(changed("a")).published(), [""; 0]);
}

/// The source reports an empty value while `b` is in validation: the engine ignores the validation
/// result, and does not publish `b`.
#[test]
fn removal_report_discards_other_value_in_validation() {
    let (mut engine, validation, now) = super::validation::validating();
    let again = fetch_session(&engine.step(now, Input::ReloadNow));
    engine.step(now, Input::Fetched(again, changed("")));
    assert_eq!(engine.step(now, Input::Validated(validation, Ok(()))), []);
}

#[test]
fn resumed_removal_confirmed_silently() {
    let now = Instant::now();
    let engine = Engine::new(settings(Strategy::Polling), 7, now).resume(2.into(), None);
    let mut bench = started(engine, now);
    assert_eq!(bench.answer(Ok(Outcome::Absent)).effects, [], "the removal is published already");
    assert_eq!(bench.confirmations, 1);

    let engine = Engine::new(settings(Strategy::Polling), 7, now).resume(0.into(), None);
    let mut bench = started(engine, now);
    let report = Effect::Report(Report::NoValueYet);
    assert_eq!(bench.answer(Ok(Outcome::Absent)).effects, [report]);
}

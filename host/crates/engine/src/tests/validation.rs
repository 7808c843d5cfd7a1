//! Tests of values in validation, of rejected values and of their cursors.

use super::harness::*;
use crate::{
    Effect, Engine, Input, Report, Session,
    types::{Cursor, Event, Failure, Outcome, Revision, Snapshot, Strategy},
};
use std::time::{Duration, Instant};

/// Returns an engine with the value `a` published and `b` in validation.
pub(super) fn validating() -> (Engine, Session, Instant) {
    let now = Instant::now();
    let settings = crate::Settings::new(Strategy::Polling, HOUR);
    let mut engine =
        Engine::new(settings, 7, now).resume(Revision::default().next(), Some(value("a")));
    let first = fetch_session(&engine.start(now));
    engine.step(now, Input::Fetched(first, changed("b")));
    (engine, Session(first.0 + 1), now)
}

/// `b` is accepted while a fetch with the cursor of `a` is in flight. The result `Unchanged` refers to
/// `a`, so it does not confirm `b`.
#[test]
fn unchanged_for_superseded_value_triggers_refetch() {
    let (mut engine, validation, now) = validating();
    // The poll sends the cursor of `a`, and the source has changed back to `a`.
    let poll = fetch_session(&engine.step(now + 2 * HOUR, Input::Tick));
    engine.step(now + 2 * HOUR, Input::Validated(validation, Ok(())));
    let effects = engine.step(now + 2 * HOUR, Input::Fetched(poll, Ok(Outcome::Unchanged)));
    assert!(!effects.contains(&Effect::Confirmed), "{effects:?}");
    fetch_session(&effects);
}

#[test]
fn value_removed_during_validation_not_published() {
    let (mut engine, validation, now) = validating();
    let again = fetch_session(&engine.step(now, Input::ReloadNow));
    engine.step(now, Input::Fetched(again, Ok(Outcome::Absent)));
    assert_eq!(engine.step(now, Input::Validated(validation, Ok(()))), []);
}

/// The source reports `c`, and then the rejected `b` again, before the validation of `c` ends.
#[test]
fn value_superseded_during_validation_not_published() {
    let (mut engine, validation, now) = validating();
    let unfit = Failure::permanent("rejected");
    engine.step(now, Input::Validated(validation, Err(unfit)));
    let mut read = |content: &str| {
        let session = fetch_session(&engine.step(now, Input::ReloadNow));
        engine.step(now, Input::Fetched(session, changed(content)));
        Session(session.0 + 1)
    };
    let validation = read("c");
    read("b");
    assert_eq!(engine.step(now, Input::Validated(validation, Ok(()))), []);
}

/// The source reports `c` while `b` is in validation. The result for `b` neither publishes nor
/// rejects `c`.
#[test]
fn late_validation_result_ignored() {
    let (mut engine, previous, now) = validating();
    let session = fetch_session(&engine.step(now, Input::ReloadNow));
    engine.step(now, Input::Fetched(session, changed("c")));
    let current = Session(session.0 + 1);
    assert_eq!(engine.step(now, Input::Validated(previous, Err(transient_failure()))), []);
    assert_eq!(engine.step(now, Input::Validated(previous, Ok(()))), []);
    let effects = engine.step(now, Input::Validated(current, Ok(())));
    assert!(effects.contains(&Effect::Publish(2.into(), value("c"))), "{effects:?}");
}

#[test]
fn value_in_validation_not_validated_twice() {
    let (mut engine, validation, now) = validating();
    let again = fetch_session(&engine.step(now, Input::ReloadNow));
    assert_eq!(engine.step(now, Input::Fetched(again, changed("b"))), []);
    let effects = engine.step(now, Input::Validated(validation, Ok(())));
    assert!(effects.contains(&Effect::Publish(2.into(), value("b"))), "{effects:?}");
}

#[test]
fn rejected_value_kept_for_inspection_until_acceptance() {
    let mut bench = bench(Strategy::Polling);
    bench.validate = |_| Err(transient_failure());
    bench.answer(changed("a"));
    assert_eq!(bench.engine.rejected(), Some(&value("a")));
    bench.validate = |_| Ok(());
    bench.wait_for_fetch().answer(changed("a"));
    assert_eq!(bench.engine.rejected(), None);
}

/// After a transient rejection, the next fetch is scheduled for the time of the retry.
#[test]
fn transient_rejection_retried_soon() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_fetch();
    bench.validate = |_| Err(transient_failure());
    bench.answer(changed("b"));
    let retry_in = bench.effects.iter().find_map(|effect| match effect {
        Effect::Report(Report::Rejected { retry_in, .. }) => Some(*retry_in),
        _ => None,
    });
    let retry_in = retry_in.expect("rejection reported").expect("retry after a transient failure");
    assert!(retry_in <= Duration::from_millis(100), "{retry_in:?}");
    assert_eq!(bench.next_fetch_in(), retry_in);
    bench.validate = |_| Ok(());
    assert_eq!(bench.wait_for_fetch().answer(changed("b")).published(), ["b"]);
}

#[test]
fn permanent_rejection_not_retried() {
    let mut bench = bench(Strategy::Polling);
    bench.validate = |_| Err(Failure::permanent("rejected"));
    bench.answer(changed("a"));
    let failure = Failure::permanent("rejected");
    let rejected = Effect::Report(Report::Rejected { failure, retry_in: None });
    assert!(bench.effects.contains(&rejected), "{:?}", bench.effects);
    bench.validate = |_| Ok(());
    for _ in 0..10 {
        assert_eq!(bench.wait_for_fetch().answer(changed("a")).published(), [""; 0]);
    }
}

#[test]
fn reload_revalidates_rejected_value() {
    let mut bench = bench(Strategy::Polling);
    bench.validate = |_| Err(Failure::permanent("rejected"));
    assert_eq!(bench.answer(changed("a")).published(), [""; 0]);
    bench.validate = |_| Ok(());
    bench.wait_for_fetch().answer(changed("a"));
    assert_eq!(bench.published(), [""; 0], "no retry after a permanent rejection");
    assert_eq!(bench.step(Input::ReloadNow).answer(changed("a")).published(), ["a"]);
}

/// If the published and the rejected value have the same cursor, the fetch sends none.
#[test]
fn weak_cursor_of_rejected_value_withheld() {
    let written = |content: &str, cursor: &str| {
        let cursor = Some(Cursor::new(cursor));
        Ok(Outcome::Changed(Snapshot { cursor, ..value(content) }))
    };
    let mut settings = settings(Strategy::Polling);
    settings.stale_after = HOUR;
    let mut bench = bench_with_settings(settings);
    bench.answer(written("a", "this second"));
    bench.validate = |_| Err(Failure::permanent("rejected"));
    bench.step(Input::ReloadNow).answer(written("b", "this second"));
    assert_eq!(bench.wait_for_deadline().fetch().expect("due").1, None);
    // The source reports the rejected `b` with another cursor, so the fetch can send the cursor of `a`.
    bench.answer(written("b", "before"));
    assert!(bench.wait_for_deadline().fetch().expect("due").1.is_some());
    bench.answer(written("b", "this second"));
    assert_eq!(bench.wait_for_deadline().fetch().expect("due").1, None);
}

/// A report of the rejected value before its retry neither validates it nor delays the retry.
#[test]
fn rejected_value_reported_early_validated_at_retry() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.validate = |_| Err(transient_failure());
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    let retry_in = bench.next_fetch_in();
    assert!(!retry_in.is_zero() && retry_in <= Duration::from_millis(100), "{retry_in:?}");
    bench.validate = |_| Ok(());
    bench.step(Input::Watched(watch, Event::Dirty)).answer(changed("b"));
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.next_fetch_in(), retry_in);
    assert_eq!(bench.wait_for_fetch().answer(changed("b")).published(), ["b"]);
}

#[test]
fn validation_result_after_source_replacement_ignored() {
    let (mut engine, validation, now) = validating();
    engine.step(now, Input::Replaced(settings(Strategy::Polling)));
    assert_eq!(engine.step(now, Input::Validated(validation, Ok(()))), []);
}

//! Tests of values in validation and of pinned values.

use super::{harness::*, *};
use crate::types::{FailureKind, Outcome};

/// Returns an engine with the value `a` published and `b` in validation.
fn validating() -> (Engine, Session, Instant) {
    validating_with(Mutations::default())
}

fn validating_with(mutations: Mutations) -> (Engine, Session, Instant) {
    let now = Instant::now();
    let mut engine =
        Engine::with_mutations(Settings::new(Strategy::Polling, HOUR), 7, now, mutations)
            .resume(Revision::default().next(), Some(value("a")));
    let first = fetch_session(&engine.start(now));
    engine.step(now, Input::Fetched(first, changed("b")));
    (engine, Session(first.0 + 1), now)
}

const HOUR: Duration = Duration::from_secs(3600);

fn fetch_session(effects: &[Effect]) -> Session {
    let fetch = effects.iter().find_map(|effect| match effect {
        Effect::Fetch(session, _) => Some(*session),
        _ => None,
    });
    fetch.expect("a fetch")
}

/// `Unchanged` refers to the value published at the start of the fetch.
#[test]
fn unchanged_for_superseded_value_triggers_refetch() {
    check_unchanged_for_superseded_value(Mutations::default());
}

pub(super) fn check_unchanged_for_superseded_value(mutations: Mutations) {
    let (mut engine, validation, now) = validating_with(mutations);
    // The poll sends the cursor of `a`, and the source has changed back to `a`.
    let poll = fetch_session(&engine.step(now + 2 * HOUR, Input::Tick));
    engine.step(now + 2 * HOUR, Input::Judged(validation, Ok(())));
    let effects = engine.step(now + 2 * HOUR, Input::Fetched(poll, Ok(Outcome::Unchanged)));
    assert!(!effects.contains(&Effect::Confirmed), "{effects:?}");
    fetch_session(&effects);
}

#[test]
fn value_removed_during_validation_not_published() {
    let (mut engine, validation, now) = validating();
    let again = fetch_session(&engine.step(now, Input::ReloadNow));
    engine.step(now, Input::Fetched(again, Ok(Outcome::Absent)));
    assert_eq!(engine.step(now, Input::Judged(validation, Ok(()))), []);
}

/// The source reports `c`, and then the rejected `b` again, before `c` is validated.
#[test]
fn value_superseded_during_validation_not_published() {
    let (mut engine, validation, now) = validating();
    let unfit = Failure::new(FailureKind::Permanent, "rejected");
    engine.step(now, Input::Judged(validation, Err(unfit)));
    let mut read = |content: &str| {
        let session = fetch_session(&engine.step(now, Input::ReloadNow));
        engine.step(now, Input::Fetched(session, changed(content)));
        Session(session.0 + 1)
    };
    let validation = read("c");
    read("b");
    assert_eq!(engine.step(now, Input::Judged(validation, Ok(()))), []);
}

#[test]
fn pin_discards_value_in_validation() {
    let (mut engine, validation, now) = validating();
    engine.step(now, Input::Pin(value("p")));
    assert_eq!(engine.step(now, Input::Judged(validation, Ok(()))), []);
}

/// A fetch that started during the pin sent the cursor of the held-back value.
#[test]
fn unchanged_after_unpin_triggers_refetch() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).step(Input::Pin(value("p")));
    // The fetch sends the cursor of `a`, and the source still has `a`; but `p` is published.
    let (session, _) = bench.wait_for_fetch().fetch().expect("due");
    bench.confirmations = 0;
    bench.step(Input::Unpin).step(Input::Fetched(session, Ok(Outcome::Unchanged)));
    assert_eq!(bench.confirmations, 0);
    assert_eq!(bench.fetch().expect("refetch").1, None);
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

/// Reports during the pin confirm nothing, so the longer delay applies.
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

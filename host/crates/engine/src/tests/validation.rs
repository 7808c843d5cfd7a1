//! What becomes of a value while it is judged, and of one that is pinned.

use super::{harness::*, *};
use crate::types::{FailureKind, Outcome};

/// With `a` published, and `b` being judged.
fn judging() -> (Engine, Session, Instant) {
    judging_with(Bugs::default())
}

fn judging_with(bugs: Bugs) -> (Engine, Session, Instant) {
    let now = Instant::now();
    let mut engine = Engine::with_bugs(Settings::new(Strategy::Polling, HOUR), 7, now, bugs)
        .resume(Revision::default().next(), Some(value("a")));
    let first = asked(&engine.start(now));
    engine.step(now, Input::Fetched(first, changed("b")));
    (engine, Session(first.0 + 1), now)
}

const HOUR: Duration = Duration::from_secs(3600);

fn asked(effects: &[Effect]) -> Session {
    let fetch = effects.iter().find_map(|effect| match effect {
        Effect::Fetch(session, _) => Some(*session),
        _ => None,
    });
    fetch.expect("a fetch")
}

#[test]
fn unchanged_means_nothing_when_another_value_was_published_meanwhile() {
    unchanged_since_it_was_asked(Bugs::default());
}

pub(super) fn unchanged_since_it_was_asked(bugs: Bugs) {
    let (mut engine, judged, now) = judging_with(bugs);
    // It is asked with the cursor of `a`, which is what it has gone back to.
    let poll = asked(&engine.step(now + 2 * HOUR, Input::Tick));
    engine.step(now + 2 * HOUR, Input::Judged(judged, Ok(())));
    let effects = engine.step(now + 2 * HOUR, Input::Fetched(poll, Ok(Outcome::Unchanged)));
    assert!(!effects.contains(&Effect::Confirmed), "{effects:?}");
    asked(&effects);
}

#[test]
fn a_value_that_is_gone_before_it_was_judged_is_not_published() {
    let (mut engine, judged, now) = judging();
    let again = asked(&engine.step(now, Input::ReloadNow));
    engine.step(now, Input::Fetched(again, Ok(Outcome::Absent)));
    assert_eq!(engine.step(now, Input::Judged(judged, Ok(()))), []);
}

#[test]
fn a_value_that_the_source_left_for_one_that_was_refused_is_not_published() {
    let (mut engine, judged, now) = judging();
    let unfit = Failure::new(FailureKind::Permanent, "not fit");
    engine.step(now, Input::Judged(judged, Err(unfit)));
    let mut read = |content: &str| {
        let session = asked(&engine.step(now, Input::ReloadNow));
        engine.step(now, Input::Fetched(session, changed(content)));
        Session(session.0 + 1)
    };
    let judged = read("c");
    read("b");
    assert_eq!(engine.step(now, Input::Judged(judged, Ok(()))), []);
}

#[test]
fn what_was_being_judged_when_a_value_was_pinned_is_not_published() {
    let (mut engine, judged, now) = judging();
    engine.step(now, Input::Pin(value("p")));
    assert_eq!(engine.step(now, Input::Judged(judged, Ok(()))), []);
}

#[test]
fn what_was_asked_about_what_a_pin_held_back_says_nothing_of_what_was_pinned() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).step(Input::Pin(value("p")));
    // It asks whether the source still has `a`, and so it has; but `p` is what is published.
    let (session, _) = bench.wait_for_fetch().fetch().expect("due");
    bench.confirmed = 0;
    bench.step(Input::Unpin).step(Input::Fetched(session, Ok(Outcome::Unchanged)));
    assert_eq!(bench.confirmed, 0);
    assert_eq!(bench.fetch().expect("once more").1, None);
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

#[test]
fn gone_right_after_a_pin_was_taken_out_is_doubted_for_longer() {
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
fn what_is_pinned_where_there_was_nothing_is_stale_while_the_source_fails() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(Err(broken())).step(Input::Pin(value("p")));
    assert_eq!(bench.published(), ["p"]);
    assert!(bench.effects.contains(&Effect::Stale(broken())), "{:?}", bench.effects);
    bench.wait_for_fetch().answer(Ok(Outcome::Absent));
    assert!(bench.effects.contains(&Effect::Fresh), "{:?}", bench.effects);
}

#[test]
fn to_take_out_what_is_not_pinned_is_nothing() {
    let mut bench = bench(Strategy::Polling);
    assert_eq!(bench.answer(changed("a")).step(Input::Unpin).effects, []);
}

//! The points of the contract, a test each. The finer rules are in `tests`.

use super::{harness::*, *};
use crate::types::{Cursor, Event, FailureKind, Outcome};

/// The next bench's watch, live, with `a` published, and everything else at rest.
fn watched(strategy: Strategy) -> (Bench, Session) {
    let mut bench = bench(strategy);
    let watch = bench.settled().expect("the strategy watches");
    (bench, watch)
}

fn revisions(bench: &Bench) -> Vec<u64> {
    let revision = |effect: &Effect| match effect {
        Effect::Publish(revision, _) | Effect::PublishRemoved(revision) => Some(revision.get()),
        _ => None,
    };
    bench.effects.iter().filter_map(revision).collect()
}

#[test]
fn point_1_latest_wins_and_nothing_final_is_lost() {
    let (mut bench, watch) = watched(Strategy::Realtime);
    // It changes twice while it is being read: the answer may be either, the last one arrives.
    bench.step(Input::Watched(watch, Event::Dirty));
    let (session, _) = bench.fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Dirty));
    bench.step(Input::Fetched(session, changed("b")));
    assert_eq!(bench.answer(changed("c")).published(), ["c"]);
    // The watch says nothing of the next change: the slow poll finds it.
    while bench.fetch().is_none() {
        bench.wait_for_deadline();
        if bench.fetch().is_none() {
            bench.step(Input::Watched(watch, Event::Alive));
        }
    }
    assert_eq!(bench.answer(changed("d")).published(), ["d"]);
}

#[test]
fn point_2_revisions_only_go_up_also_across_a_restart() {
    let (mut bench, watch) = watched(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    assert_eq!(revisions(&bench), [2]);
    let settings = Settings::new(Strategy::Hybrid, Duration::from_secs(10));
    let engine = Engine::new(settings, 8, bench.now);
    let mut again = started(engine.resume(2.into(), Some(value("b"))), bench.now);
    assert_eq!(revisions(again.answer(changed("b"))), [0; 0], "what is known is not news");
    let (session, _) = again.step(Input::ReloadNow).fetch().expect("in flight");
    again.step(Input::Fetched(session, changed("c")));
    assert_eq!(revisions(&again), [3]);
}

#[test]
fn point_3_at_least_once_and_never_an_older_value_after_a_newer_one() {
    let (mut bench, watch) = watched(Strategy::Hybrid);
    // What was asked before the watch spoke is older than what it said.
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!(bench.published(), [""; 0]);
    // What a watch says that has been given up is older than what the next one says.
    bench.step(Input::WatchLost(watch, broken()));
    bench.step(Input::Watched(watch, Event::Changed(value("a"))));
    assert_eq!(bench.published(), [""; 0]);
    // What changed while the host was down arrives when it is up again.
    let engine =
        Engine::new(Settings::new(Strategy::Polling, Duration::from_secs(1)), 8, bench.now);
    let mut again = started(engine.resume(1.into(), Some(value("b"))), bench.now);
    assert_eq!(again.answer(changed("c")).published(), ["c"]);
}

#[test]
fn point_4_the_cursor_moves_only_after_the_value_was_accepted() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    bench.judge = |_| Err(broken());
    bench.wait_for_deadline().answer(changed("b"));
    assert_eq!(bench.published(), [""; 0]);
    // A failed apply is tried again, and the source is still asked with the last good cursor.
    bench.judge = |_| Ok(());
    bench.wait_for_deadline();
    assert_eq!(bench.fetch().expect("tried again").1, Some(Cursor::new("a")));
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);
    bench.wait_for_deadline();
    assert_eq!(bench.fetch().expect("due").1, Some(Cursor::new("b")));
}

#[test]
fn point_5_compared_is_the_last_attempted_value() {
    let mut bench = bench(Strategy::Polling);
    bench.judge = |value| match &value.content[..] {
        b"bad" => Err(Failure::new(FailureKind::Permanent, "not fit")),
        _ => Ok(()),
    };
    bench.answer(changed("good"));
    bench.wait_for_deadline().answer(changed("bad"));
    let refused = |effect: &Effect| matches!(effect, Effect::Report(Report::Refused { .. }));
    assert_eq!(bench.effects.iter().filter(|effect| refused(effect)).count(), 1);
    bench.wait_for_deadline().answer(changed("bad"));
    assert_eq!(bench.effects, [], "the same is not tried again for nothing");
    bench.wait_for_deadline().answer(changed("good"));
    assert_eq!(bench.published(), ["good"]);
    // The same, where the source says no more than that it has gone back.
    bench.wait_for_deadline().answer(changed("bad"));
    bench.wait_for_deadline().answer(Ok(Outcome::Unchanged));
    assert_eq!(bench.published(), ["good"]);
}

#[test]
fn point_6_freshness_is_explicit() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    assert_eq!(std::mem::take(&mut bench.confirmed), 1);
    bench.wait_for_deadline().answer(Ok(Outcome::Unchanged));
    assert_eq!(std::mem::take(&mut bench.confirmed), 1);
    let why = loop {
        bench.wait_for_deadline();
        if let Some(Effect::Stale(why)) =
            bench.effects.iter().find(|effect| matches!(effect, Effect::Stale(_)))
        {
            break why.clone();
        }
        if bench.fetch().is_some() {
            bench.answer(Err(broken()));
        }
    };
    assert_eq!(why, broken());
    assert_eq!(bench.confirmed, 0);
    bench.step(Input::ReloadNow);
    while bench.fetch().is_none() {
        bench.wait_for_deadline();
    }
    bench.answer(changed("a"));
    assert!(bench.effects.contains(&Effect::Fresh), "{:?}", bench.effects);
    // After a crash nobody knows how long it will be, and it is said at once.
    bench.step(Input::ReloadNow).answer(Err(crash()));
    assert!(bench.effects.contains(&Effect::Stale(crash())), "{:?}", bench.effects);
    // What is from before a restart is not current before the source says so.
    let resumed = || {
        let engine = Engine::new(bench.engine.settings.clone(), 8, bench.now);
        started(engine.resume(1.into(), Some(value("a"))), bench.now)
    };
    let unconfirmed = Effect::Stale(Failure::transient(UNCONFIRMED));
    let mut again = resumed();
    assert!(again.effects.contains(&unconfirmed), "{:?}", again.effects);
    again.answer(changed("a"));
    assert_eq!((again.confirmed, &again.effects[..]), (1, &[Effect::Fresh][..]));
    let mut again = resumed();
    again.answer(Err(broken()));
    assert!(again.effects.contains(&Effect::Stale(broken())), "{:?}", again.effects);
    again.wait_for_fetch().answer(Err(Failure::transient("for another reason")));
    let stale = again.effects.iter().any(|effect| matches!(effect, Effect::Stale(_)));
    assert!(!stale, "it is said once: {:?}", again.effects);
}

#[test]
fn point_7_a_failure_never_clears_a_value_and_emptiness_is_suspicious() {
    let (mut bench, watch) = watched(Strategy::Hybrid);
    for failure in [
        broken(),
        Failure::new(FailureKind::Config, "no"),
        Failure::new(FailureKind::Denied, "no"),
        Failure::new(FailureKind::Permanent, "no"),
    ] {
        bench.step(Input::ReloadNow).answer(Err(failure));
        assert_eq!(bench.published(), [""; 0]);
    }
    bench.step(Input::WatchLost(watch, broken()));
    assert_eq!(bench.published(), [""; 0]);
    // A source that was restarted says "empty" before it has loaded its data.
    bench.step(Input::ReloadNow).answer(changed(""));
    bench.step(Input::ReloadNow).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.step(Input::ReloadNow).answer(changed("a"));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn point_8_a_fault_ends_nothing_but_settings_that_can_never_work() {
    let (mut bench, watch) = watched(Strategy::Realtime);
    bench.step(Input::WatchLost(watch, Failure::new(FailureKind::Config, "no")));
    for _ in 0..100 {
        bench.wait_for_deadline();
        if let Some(watch) = bench.opening() {
            bench.step(Input::WatchLost(watch, Failure::new(FailureKind::Permanent, "no")));
        } else if bench.fetch().is_some() {
            bench.answer(Err(Failure::new(FailureKind::Config, "no")));
        }
    }
    while bench.fetch().is_none() {
        bench.wait_for_deadline();
    }
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);

    // What crashes again and again is left alone for a while, and then tried again.
    for _ in 0..5 {
        bench.wait_for_fetch().answer(Err(crash()));
    }
    let quarantine = bench.engine.next_fetch().expect("scheduled") - bench.now;
    assert!(quarantine >= Duration::from_secs(300), "{quarantine:?}");
    assert_eq!(bench.wait_for_fetch().answer(changed("c")).published(), ["c"]);

    let mut hopeless = crate::tests::harness::bench(Strategy::Polling);
    let failure = Failure::new(FailureKind::Config, "`key` is missing");
    hopeless.answer(Err(failure.clone()));
    assert_eq!(hopeless.effects, [Effect::GiveUp(failure)]);
    assert_eq!(hopeless.engine.deadline(), None);
}

#[test]
fn point_9_every_call_has_a_deadline() {
    let mut bench = bench(Strategy::Realtime);
    // The first fetch is never answered.
    bench.wait(Duration::from_secs(60));
    assert!(bench.effects.contains(&Effect::CancelFetch), "{:?}", bench.effects);
    // Nor is the opening of the watch …
    let watch = bench.opening().expect("opened all the same");
    bench.wait(Duration::from_secs(60));
    assert!(bench.effects.contains(&Effect::CloseWatch), "{:?}", bench.effects);
    assert!(bench.step(Input::Armed(watch)).effects.is_empty(), "it was given up");
    // … and one that lives and says nothing is opened anew.
    while bench.opening().is_none() {
        bench.wait_for_deadline();
    }
    let watch = bench.opening().expect("opening");
    bench.step(Input::Armed(watch));
    bench.wait(Duration::from_secs(60));
    assert!(bench.effects.contains(&Effect::CloseWatch), "{:?}", bench.effects);
}

#[test]
fn point_10_doubt_of_any_kind_means_read_again() {
    let (mut bench, watch) = watched(Strategy::Realtime);
    bench.step(Input::Watched(watch, Event::Dirty));
    assert_eq!(bench.fetch().expect("read again").1, None, "whatever the cursor says");
    bench.answer(changed("a"));
    bench.step(Input::WatchLost(watch, broken()));
    bench.wait_for_deadline();
    let watch = bench.opening().expect("opened again");
    bench.step(Input::Armed(watch));
    assert_eq!(bench.fetch().expect("read again").1, None);
    bench.answer(changed("a"));
    bench.wait(Duration::from_secs(60));
    assert!(bench.effects.contains(&Effect::CloseWatch), "silent for too long");
    assert_eq!(bench.fetch().expect("read again").1, None);
}

#[test]
fn point_11_what_is_pinned_stays_whatever_the_source_says() {
    let (mut bench, watch) = watched(Strategy::Hybrid);
    bench.step(Input::Pin(value("p")));
    assert_eq!((bench.published(), revisions(&bench)), (vec!["p".into()], vec![2]));
    bench.step(Input::Pin(value("p")));
    assert_eq!(bench.published(), [""; 0], "it is pinned already");
    // Neither what the watch says, nor what is read, nor that there is nothing, is let through …
    bench.confirmed = 0;
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    assert!(bench.effects.contains(&Effect::Report(Report::HeldBack)), "{:?}", bench.effects);
    bench.step(Input::Watched(watch, Event::Removed));
    assert_eq!(bench.published(), [""; 0]);
    bench.step(Input::ReloadNow).answer(changed("c"));
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.confirmed, 3, "… but the source answers");
    // It outlives a restart.
    let settings = Settings::new(Strategy::Polling, Duration::from_secs(10));
    let engine = Engine::new(settings, 8, bench.now).resume(2.into(), Some(value("p"))).pinned();
    let mut again = started(engine, bench.now);
    assert!(again.engine.is_pinned());
    assert_eq!(again.answer(changed("c")).published(), [""; 0]);
    let (_, known) = again.wait_for_fetch().fetch().expect("due");
    assert_eq!(known, Some(Cursor::new("c")), "it is not transferred over and over");
    again.answer(Ok(Outcome::Unchanged));
    // When it is let go, the source is read in full, and its value comes through.
    again.step(Input::Unpin);
    assert_eq!(again.fetch().expect("at once").1, None);
    assert_eq!(revisions(again.answer(changed("c"))), [3]);
    assert_eq!(again.published(), ["c"]);
}

#[test]
fn a_source_that_is_replaced_is_read_and_watched_anew_and_its_revisions_go_on() {
    let (mut bench, watch) = watched(Strategy::Hybrid);
    bench.step(Input::ReloadNow);
    let (asked, _) = bench.fetch().expect("it is being read");
    let settings = Settings::new(Strategy::Hybrid, Duration::from_secs(1));
    bench.step(Input::Replaced(settings));
    let (session, known) = bench.fetch().expect("at once");
    assert_eq!(known, None, "a cursor of the one before may mean something else");
    assert_eq!(bench.published(), [""; 0], "what is published stays");
    // Whatever the one before says is late.
    bench.step(Input::Fetched(asked, changed("old")));
    bench.step(Input::Watched(watch, Event::Changed(value("older"))));
    assert_eq!(bench.published(), [""; 0]);
    bench.step(Input::Fetched(session, changed("new")));
    assert_eq!((bench.published(), revisions(&bench)), (vec!["new".into()], vec![2]));
    assert!(bench.opening().is_some(), "{:?}", bench.effects);
    // One that need not be watched is not.
    bench.step(Input::Replaced(Settings::new(Strategy::Polling, Duration::from_secs(1))));
    bench.answer(changed("new"));
    assert!(bench.opening().is_none());
}

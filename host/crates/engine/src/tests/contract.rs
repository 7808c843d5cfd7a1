//! Tests of the contract in the crate documentation (`lib.rs`): `point_N_…` tests the point N. The
//! other modules of `tests` test the detailed rules.

use super::harness::*;
use crate::{
    Effect, Engine, Input, Report, Settings, UNCONFIRMED,
    types::{Cursor, Event, Failure, FailureKind, Outcome, Strategy},
};
use std::time::Duration;

fn revisions(bench: &Bench) -> Vec<u64> {
    let revision = |effect: &Effect| match effect {
        Effect::Publish(revision, _) | Effect::PublishRemoved(revision) => Some(revision.get()),
        _ => None,
    };
    bench.effects.iter().filter_map(revision).collect()
}

#[test]
fn point_1_final_value_published() {
    let (mut bench, watch) = watching_bench(Strategy::Realtime);
    // A second change during the fetch of the first: the result may be either value, and a refetch
    // publishes the last one.
    bench.step(Input::Watched(watch, Event::Dirty));
    let (session, _) = bench.fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Dirty));
    bench.step(Input::Fetched(session, changed("b")));
    assert_eq!(bench.answer(changed("c")).published(), ["c"]);
    // The watch misses the next change, and the reconcile poll finds it.
    bench.wait_for_fetch_with_alive_events(watch);
    assert_eq!(bench.answer(changed("d")).published(), ["d"]);
}

#[test]
fn point_2_revisions_increase_across_restart() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    assert_eq!(revisions(&bench), [2]);
    let engine = Engine::new(settings(Strategy::Hybrid), 8, bench.now);
    let mut again = started(engine.resume(2.into(), Some(value("b"))), bench.now);
    assert_eq!(
        revisions(again.answer(changed("b"))),
        [0; 0],
        "the resumed value is not published again"
    );
    let (session, _) = again.step(Input::ReloadNow).fetch().expect("in flight");
    again.step(Input::Fetched(session, changed("c")));
    assert_eq!(revisions(&again), [3]);
}

#[test]
fn point_3_older_values_never_published() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    // The fetch started before the watch event, so its result is older.
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!(bench.published(), [""; 0]);
    // An event of a lost watch is late and is ignored.
    bench.step(Input::WatchLost(watch, transient_failure()));
    bench.step(Input::Watched(watch, Event::Changed(value("a"))));
    assert_eq!(bench.published(), [""; 0]);
    // A change during the downtime of the host is published after the restart.
    let engine =
        Engine::new(Settings::new(Strategy::Polling, Duration::from_secs(1)), 8, bench.now);
    let mut again = started(engine.resume(1.into(), Some(value("b"))), bench.now);
    assert_eq!(again.answer(changed("c")).published(), ["c"]);
}

#[test]
fn point_4_cursor_advances_after_acceptance() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    bench.validate = |_| Err(transient_failure());
    bench.wait_for_deadline().answer(changed("b"));
    assert_eq!(bench.published(), [""; 0]);
    bench.validate = |_| Ok(());
    bench.wait_for_deadline();
    // The fetch sends the cursor of the accepted `a`, so that the source reports the rejected `b` again.
    assert_eq!(bench.fetch().expect("retry").1, Some(Cursor::new("a")));
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);
    bench.wait_for_deadline();
    assert_eq!(bench.fetch().expect("due").1, Some(Cursor::new("b")));
}

#[test]
fn point_5_last_attempted_value_compared() {
    let mut bench = bench(Strategy::Polling);
    bench.validate = |value| match &value.content[..] {
        b"bad" => Err(Failure::permanent("rejected")),
        _ => Ok(()),
    };
    bench.answer(changed("good"));
    bench.wait_for_deadline().answer(changed("bad"));
    let rejected = |effect: &Effect| matches!(effect, Effect::Report(Report::Rejected { .. }));
    assert_eq!(bench.effects.iter().filter(|effect| rejected(effect)).count(), 1);
    bench.wait_for_deadline().answer(changed("bad"));
    assert_eq!(bench.effects, [], "an unchanged rejected value is not validated again");
    bench.wait_for_deadline().answer(changed("good"));
    assert_eq!(bench.published(), ["good"]);
    bench.wait_for_deadline().answer(changed("bad"));
    // The source changes back to the good value, and reports it as `Unchanged`.
    bench.wait_for_deadline().answer(Ok(Outcome::Unchanged));
    assert_eq!(bench.published(), ["good"]);
}

#[test]
fn point_6_freshness_reported() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    assert_eq!(std::mem::take(&mut bench.confirmations), 1);
    bench.wait_for_deadline().answer(Ok(Outcome::Unchanged));
    assert_eq!(std::mem::take(&mut bench.confirmations), 1);
    for _ in 0..100 {
        bench.wait_for_deadline();
        if !bench.stale_reasons().is_empty() {
            break;
        }
        if bench.fetch().is_some() {
            bench.answer(Err(transient_failure()));
        }
    }
    assert!(bench.effects.contains(&Effect::Stale(transient_failure())), "{:?}", bench.effects);
    assert_eq!(bench.confirmations, 0);
    bench.step(Input::ReloadNow).wait_for_fetch();
    bench.answer(changed("a"));
    assert!(bench.effects.contains(&Effect::Fresh), "{:?}", bench.effects);
    // A crash makes the value stale immediately.
    bench.step(Input::ReloadNow).answer(Err(crash()));
    assert!(bench.effects.contains(&Effect::Stale(crash())), "{:?}", bench.effects);
    // A value from before a restart is stale until the source confirms it.
    let resumed = || {
        let engine = Engine::new(settings(Strategy::Polling), 8, bench.now);
        started(engine.resume(1.into(), Some(value("a"))), bench.now)
    };
    let unconfirmed = Effect::Stale(Failure::transient(UNCONFIRMED));
    let mut again = resumed();
    assert!(again.effects.contains(&unconfirmed), "{:?}", again.effects);
    again.answer(changed("a"));
    assert_eq!((again.confirmations, &again.effects[..]), (1, &[Effect::Fresh][..]));
    let mut again = resumed();
    again.answer(Err(transient_failure()));
    assert!(again.effects.contains(&Effect::Stale(transient_failure())), "{:?}", again.effects);
    again.wait_for_fetch().answer(Err(Failure::transient("another failure")));
    assert_eq!(again.stale_reasons(), [""; 0], "staleness is reported once");
}

#[test]
fn point_7_failure_never_removes_value() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    for failure in [
        transient_failure(),
        Failure::new(FailureKind::Config, "no"),
        Failure::new(FailureKind::Denied, "no"),
        Failure::permanent("no"),
    ] {
        bench.step(Input::ReloadNow).answer(Err(failure));
        assert_eq!(bench.published(), [""; 0]);
    }
    bench.step(Input::WatchLost(watch, transient_failure()));
    assert_eq!(bench.published(), [""; 0]);
    // A restarted source reports an empty or absent value before it has loaded its data.
    bench.step(Input::ReloadNow).answer(changed(""));
    bench.step(Input::ReloadNow).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.step(Input::ReloadNow).answer(changed("a"));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn point_8_faults_isolated() {
    let (mut bench, watch) = watching_bench(Strategy::Realtime);
    bench.step(Input::WatchLost(watch, Failure::new(FailureKind::Config, "no")));
    for _ in 0..100 {
        bench.wait_for_deadline();
        if let Some(watch) = bench.opening() {
            bench.step(Input::WatchLost(watch, Failure::permanent("no")));
        } else if bench.fetch().is_some() {
            bench.answer(Err(Failure::new(FailureKind::Config, "no")));
        }
    }
    bench.wait_for_fetch();
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);

    // Repeated crashes cause a quarantine, and a retry follows it.
    for _ in 0..5 {
        bench.wait_for_fetch().answer(Err(crash()));
    }
    let quarantine = bench.next_fetch_in();
    assert!(quarantine >= Duration::from_secs(300), "{quarantine:?}");
    assert_eq!(bench.wait_for_fetch().answer(changed("c")).published(), ["c"]);

    let mut hopeless = super::harness::bench(Strategy::Polling);
    let failure = Failure::new(FailureKind::Config, "`key` is missing");
    hopeless.answer(Err(failure.clone()));
    assert_eq!(hopeless.effects, [Effect::GiveUp(failure)]);
    assert_eq!(hopeless.engine.deadline(), None);
}

#[test]
fn point_9_calls_have_deadlines() {
    let mut bench = bench(Strategy::Realtime);
    // The first fetch exceeds its deadline and is cancelled.
    bench.wait(Duration::from_secs(60));
    assert!(bench.effects.contains(&Effect::CancelFetch), "{:?}", bench.effects);
    // Opening the watch exceeds its deadline, so the engine closes the watch.
    let watch = bench.opening().expect("the watch opens after a failed fetch");
    bench.wait(Duration::from_secs(60));
    assert!(bench.effects.contains(&Effect::CloseWatch), "{:?}", bench.effects);
    assert!(bench.step(Input::Armed(watch)).effects.is_empty(), "the session is outdated");
    // A live watch exceeds its liveness limit and is reopened.
    let watch = bench.wait_for_opening();
    bench.step(Input::Armed(watch));
    bench.wait(Duration::from_secs(60));
    assert!(bench.effects.contains(&Effect::CloseWatch), "{:?}", bench.effects);
}

#[test]
fn point_10_uncertainty_triggers_unconditional_fetch() {
    let (mut bench, watch) = watching_bench(Strategy::Realtime);
    bench.step(Input::Watched(watch, Event::Dirty));
    assert_eq!(bench.fetch().expect("refetch").1, None, "the fetch is unconditional");
    bench.answer(changed("a"));
    bench.step(Input::WatchLost(watch, transient_failure()));
    bench.wait_for_deadline();
    let watch = bench.opening().expect("reopened");
    bench.step(Input::Armed(watch));
    assert_eq!(bench.fetch().expect("refetch").1, None);
    bench.answer(changed("a"));
    bench.wait(Duration::from_secs(60));
    assert!(bench.effects.contains(&Effect::CloseWatch), "liveness limit exceeded");
    assert_eq!(bench.fetch().expect("refetch").1, None);
}

#[test]
fn point_11_pinned_value_stays() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Pin(value("p")));
    assert_eq!((bench.published(), revisions(&bench)), (vec!["p".into()], vec![2]));
    bench.step(Input::Pin(value("p")));
    assert_eq!(bench.published(), [""; 0], "the value is pinned already");
    // Neither watch events nor fetch results replace the pinned value.
    bench.confirmations = 0;
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    assert!(bench.effects.contains(&Effect::Report(Report::DiffersFromPin)), "{:?}", bench.effects);
    bench.step(Input::Watched(watch, Event::Removed));
    assert_eq!(bench.published(), [""; 0]);
    bench.step(Input::ReloadNow).answer(changed("c"));
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.confirmations, 3, "each answer of the source confirms the pin");
    // The pin survives a restart.
    let engine = Engine::new(settings(Strategy::Polling), 8, bench.now)
        .resume(2.into(), Some(value("p")))
        .pinned();
    let mut again = started(engine, bench.now);
    assert!(again.engine.is_pinned());
    assert_eq!(again.answer(changed("c")).published(), [""; 0]);
    let (_, known) = again.wait_for_fetch().fetch().expect("due");
    assert_eq!(known, Some(Cursor::new("c")), "the held-back value is not transferred again");
    again.answer(Ok(Outcome::Unchanged));
    // An unpin fetches the source without a cursor and publishes its value.
    again.step(Input::Unpin);
    assert_eq!(again.fetch().expect("immediate fetch").1, None);
    assert_eq!(revisions(again.answer(changed("c"))), [3]);
    assert_eq!(again.published(), ["c"]);
}

/// The first fetch of the new source fails, so that it has reported no value yet.
#[test]
fn cursor_of_replaced_source_is_not_sent_to_new_one() {
    for is_pinned in [false, true] {
        let mut bench = bench(Strategy::Hybrid);
        bench.answer(changed("a"));
        if is_pinned {
            bench.step(Input::Pin(value("p")));
        }
        bench.step(Input::Replaced(settings(Strategy::Hybrid)));
        bench.answer(Err(transient_failure()));
        for _ in 0..3 {
            if let Some(watch) = bench.opening() {
                assert!(bench.effects.contains(&Effect::OpenWatch(watch, None)), "a cursor");
                bench.step(Input::WatchLost(watch, transient_failure()));
            }
            let (_, cursor) = bench.wait_for_fetch().fetch().expect("a retry");
            assert_eq!(cursor, None);
            bench.answer(Err(transient_failure()));
        }
        bench.wait_for_fetch().answer(changed("b"));
        let (_, cursor) = bench.wait_for_fetch().fetch().expect("the next poll");
        assert_eq!(cursor, Some(Cursor::new("b")));
    }
}

#[test]
fn replaced_source_starts_over_keeping_revision() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::ReloadNow);
    let (old_session, _) = bench.fetch().expect("in flight");
    let settings = Settings::new(Strategy::Hybrid, Duration::from_secs(1));
    bench.step(Input::Replaced(settings));
    let (session, known) = bench.fetch().expect("immediate fetch");
    assert_eq!(known, None, "the new source may not understand the old cursor");
    assert_eq!(bench.published(), [""; 0], "the published value stays");
    // Answers of the previous source are ignored.
    bench.step(Input::Fetched(old_session, changed("old")));
    bench.step(Input::Watched(watch, Event::Changed(value("older"))));
    assert_eq!(bench.published(), [""; 0]);
    bench.step(Input::Fetched(session, changed("new")));
    assert_eq!((bench.published(), revisions(&bench)), (vec!["new".into()], vec![2]));
    assert!(bench.opening().is_some(), "{:?}", bench.effects);
    // The new source polls, so no watch is opened.
    bench.step(Input::Replaced(Settings::new(Strategy::Polling, Duration::from_secs(1))));
    bench.answer(changed("new"));
    assert!(bench.opening().is_none());
}

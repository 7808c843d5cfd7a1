//! Tests of crashes and quarantines.

use super::harness::*;
use crate::{
    Effect, Input, Report, Role, Session,
    types::{Event, FailureKind, Strategy},
};
use std::time::Duration;

/// Returns the role in quarantine, the number of crashes and the length of the quarantine.
fn quarantined(bench: &Bench) -> Option<(Role, u32, Duration)> {
    bench.effects.iter().find_map(|effect| match effect {
        Effect::Report(Report::Quarantined { role, crashes, retry_in, .. }) => {
            Some((*role, *crashes, *retry_in))
        }
        _ => None,
    })
}

/// Returns whether a quarantine has the expected length, with a jitter of up to 5 %.
fn has_length(length: Duration, expected: Duration) -> bool {
    (expected..=expected.mul_f64(1.05)).contains(&length)
}

/// Crashes the next `times` fetches.
fn crash_fetches(bench: &mut Bench, times: usize) {
    for _ in 0..times {
        bench.wait_for_fetch().answer(Err(crash()));
    }
}

/// Returns a bench with the value `a` published and fetching in quarantine, and the session of its
/// watch if the strategy has one.
fn fetch_in_quarantine(strategy: Strategy) -> (Bench, Option<Session>) {
    let mut bench = bench(strategy);
    let watch = bench.settle();
    bench.step(Input::ReloadNow);
    crash_fetches(&mut bench, 5);
    (bench, watch)
}

/// Waits until the engine opens the watch, and arms it.
fn arm_watch(bench: &mut Bench) -> Session {
    for _ in 0..1_000 {
        if bench.opening().is_some() {
            break;
        }
        bench.wait_for_deadline();
        if bench.fetch().is_some() && bench.opening().is_none() {
            bench.answer(changed("a"));
        }
    }
    let watch = bench.opening().expect("opening");
    bench.step(Input::Armed(watch)).answer(changed("a"));
    watch
}

/// Opens and arms the watch, and then crashes it.
fn crash_armed_watch(bench: &mut Bench) {
    let watch = arm_watch(bench);
    bench.step(Input::WatchLost(watch, crash()));
}

/// Returns a bench with the value `a` published and the watch in quarantine.
fn watch_in_quarantine(strategy: Strategy) -> Bench {
    let mut bench = bench(strategy);
    crash_watch_into_quarantine(&mut bench);
    bench
}

fn crash_watch_into_quarantine(bench: &mut Bench) {
    let watch = bench.settle().expect("watching");
    bench.step(Input::WatchLost(watch, crash()));
    for _ in 0..4 {
        crash_armed_watch(bench);
    }
}

#[test]
fn fetch_crash_makes_value_stale() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    bench.wait_for_fetch().answer(Err(crash()));
    assert_eq!(bench.stale_reasons(), ["the plugin trapped"]);
    bench.wait_for_fetch().answer(Err(crash()));
    assert_eq!(bench.stale_reasons(), [""; 0], "staleness is reported once");
    bench.wait_for_fetch().answer(changed("a"));
    assert_eq!(bench.effects, [Effect::Report(Report::Recovered), Effect::Fresh]);
}

#[test]
fn watch_crash_makes_value_stale() {
    let (mut bench, watch) = watching_bench(Strategy::Realtime);
    bench.step(Input::WatchLost(watch, crash()));
    assert_eq!(bench.stale_reasons(), ["the plugin trapped"]);
    bench.step(Input::ReloadNow).answer(changed("a"));
    assert!(bench.effects.contains(&Effect::Fresh));
    // A crash while the watch is opening also makes the value stale.
    let watch = bench.wait_for_opening();
    bench.step(Input::WatchLost(watch, crash()));
    assert_eq!(bench.stale_reasons(), ["the plugin trapped"]);
}

#[test]
fn crash_without_value_not_stale() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(Err(crash()));
    assert_eq!(bench.stale_reasons(), [""; 0]);
}

/// Transient failures cause no quarantine. The first one does not make the value stale immediately.
#[test]
fn transient_failures_never_quarantined() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    bench.wait_for_fetch().answer(Err(transient_failure()));
    assert_eq!(bench.stale_reasons(), [""; 0]);
    for _ in 0..20 {
        bench.wait_for_fetch().answer(Err(transient_failure()));
        assert_eq!(quarantined(&bench), None);
    }
}

/// A timeout makes the value stale immediately, and repeated timeouts cause a quarantine.
#[test]
fn timeout_counts_as_crash() {
    let mut settings = settings(Strategy::Realtime);
    settings.stale_after = HOUR;
    let mut bench = bench_with_settings(settings.clone());
    bench.settle();
    bench.step(Input::ReloadNow).wait(Duration::from_secs(60));
    assert!(bench.stale_reasons().contains(&"the source did not answer within 60s".to_owned()));
    let mut bench = bench_with_settings(settings.clone());
    bench.settle();
    bench.wait(Duration::from_secs(60));
    assert_eq!(bench.stale_reasons(), ["the watch was silent: limit `liveness` is 60s"]);

    settings.strategy = Strategy::Polling;
    let mut bench = bench_with_settings(settings);
    for _ in 0..4 {
        bench.wait_for_fetch().wait(Duration::from_secs(60));
        assert_eq!(quarantined(&bench), None);
    }
    bench.wait_for_fetch().wait(Duration::from_secs(60));
    assert_eq!(
        quarantined(&bench).map(|(role, crashes, _)| (role, crashes)),
        Some((Role::Reading, 5))
    );
}

#[test]
fn timeout_message_names_limit() {
    let mut settings = settings(Strategy::Realtime);
    settings.timeout_limit = Some("call-timeout");
    let limit = "within 60s (derived from limit `call-timeout`)";
    let mut bench = bench_with_settings(settings.clone());
    bench.answer(changed("a"));
    bench.wait(Duration::from_secs(60));
    assert_eq!(bench.stale_reasons(), [format!("the watch could not be opened {limit}")]);
    let mut bench = bench_with_settings(settings);
    bench.settle();
    bench.step(Input::ReloadNow).wait(Duration::from_secs(60));
    assert_eq!(bench.stale_reasons(), [format!("the source did not answer {limit}")]);
}

/// With `silence_is_crash` disabled, timeouts cause neither staleness nor a quarantine.
#[test]
fn native_source_timeout_is_no_crash() {
    let mut settings = settings(Strategy::Polling);
    settings.silence_is_crash = false;
    settings.stale_after = HOUR;
    let mut bench = bench_with_settings(settings);
    bench.answer(changed("a"));
    for _ in 0..10 {
        bench.wait_for_fetch().wait(Duration::from_secs(60));
        assert_eq!((bench.stale_reasons(), quarantined(&bench)), (vec![], None));
    }
}

#[test]
fn quarantine_doubles_up_to_maximum() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    for _ in 0..4 {
        crash_fetches(&mut bench, 1);
        assert_eq!(quarantined(&bench), None);
    }
    for (crashes, expected) in
        [(5, 1), (6, 2), (7, 4), (8, 8)].map(|(n, times)| (n, FIVE_MINUTES * times))
    {
        crash_fetches(&mut bench, 1);
        let (role, counted, retry_in) = quarantined(&bench).expect("in quarantine");
        assert_eq!((role, counted), (Role::Reading, crashes));
        assert!(has_length(retry_in, expected), "{retry_in:?}");
        assert_eq!(bench.engine.next_fetch(), Some(bench.now + retry_in));
    }
    for crashes in 9..30 {
        crash_fetches(&mut bench, 1);
        let (_, counted, retry_in) = quarantined(&bench).expect("in quarantine");
        assert!(counted == crashes && has_length(retry_in, HOUR), "{retry_in:?}");
    }
}

#[test]
fn success_resets_crash_count() {
    let (mut bench, _) = fetch_in_quarantine(Strategy::Polling);
    bench.wait_for_fetch().answer(changed("b"));
    for _ in 0..4 {
        crash_fetches(&mut bench, 1);
        assert_eq!(quarantined(&bench), None);
    }
    crash_fetches(&mut bench, 1);
    let (_, crashes, length) = quarantined(&bench).expect("in quarantine");
    assert!(crashes == 5 && has_length(length, FIVE_MINUTES), "{length:?}");
}

#[test]
fn transient_failure_keeps_crash_count() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    for _ in 0..4 {
        crash_fetches(&mut bench, 1);
        bench.wait_for_fetch().answer(Err(transient_failure()));
    }
    crash_fetches(&mut bench, 1);
    assert!(quarantined(&bench).is_some());
}

#[test]
fn stale_reason_names_fetch_quarantine() {
    let (mut bench, watch) = fetch_in_quarantine(Strategy::Hybrid);
    let watch = watch.expect("watching");
    let reason =
        "reading is in quarantine after 5 crashes in a row; last crash: the plugin trapped";
    assert_eq!(bench.stale_reasons(), [reason]);
    // The watch publishes `b`. When `b` becomes stale, the reason is still the fetch quarantine.
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    assert!(bench.published() == ["b"] && bench.effects.contains(&Effect::Fresh));
    bench.step(Input::Watched(watch, Event::Dirty));
    for _ in 0..10 {
        bench.step(Input::Watched(watch, Event::Alive)).wait(Duration::from_secs(30));
        if !bench.stale_reasons().is_empty() {
            break;
        }
    }
    assert_eq!(bench.stale_reasons(), [reason]);
}

/// Watch events neither end the quarantine nor shorten it. The fetch after the quarantine is
/// unconditional, because a watch event announced a change.
#[test]
fn fetch_quarantine_outlasts_watch_events() {
    let (mut bench, watch) = fetch_in_quarantine(Strategy::Hybrid);
    let watch = watch.expect("watching");
    let until = bench.engine.next_fetch();
    let events = [Event::Dirty, Event::Removed, Event::Changed(value("b")), Event::Dirty];
    for event in events.into_iter().cycle().take(100) {
        bench.step(Input::Watched(watch, event));
        assert_eq!(bench.engine.next_fetch(), until);
    }
    bench.step(Input::WatchLost(watch, transient_failure()));
    assert_eq!(bench.engine.next_fetch(), until, "polling does not start earlier");
    let (_, known) = bench.wait_for_fetch().fetch().expect("retry after the quarantine");
    assert_eq!((Some(bench.now), known), (until, None));
}

/// Change notifications do not shorten the backoff after a crash.
#[test]
fn crash_backoff_outlasts_dirty_events() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    let (start, mut shortest) = (bench.now, Duration::ZERO);
    for min_delay in [50, 100, 200, 400] {
        bench.step(Input::Watched(watch, Event::Dirty));
        for _ in 0..1_000 {
            if bench.fetch().is_some() {
                break;
            }
            bench.wait(Duration::from_millis(1));
            if bench.fetch().is_none() {
                bench.step(Input::Watched(watch, Event::Dirty));
            }
        }
        let (session, _) = bench.fetch().expect("in flight");
        bench.step(Input::Watched(watch, Event::Dirty));
        bench.step(Input::Fetched(session, Err(crash())));
        bench.step(Input::Watched(watch, Event::Dirty));
        assert!(bench.now - start >= shortest, "{:?}", bench.now - start);
        shortest += Duration::from_millis(min_delay);
    }
}

/// An explicit reload ends the quarantine of both roles. The next quarantine has the initial
/// length.
#[test]
fn reload_ends_quarantine_and_resets_length() {
    let (mut bench, _) = fetch_in_quarantine(Strategy::Polling);
    for crashes in 6..10 {
        assert!(bench.step(Input::ReloadNow).fetch().is_some());
        bench.answer(Err(crash()));
        let (_, counted, length) = quarantined(&bench).expect("one retry only");
        assert!(counted == crashes && has_length(length, FIVE_MINUTES), "{length:?}");
    }

    let mut bench = watch_in_quarantine(Strategy::Realtime);
    assert!(bench.step(Input::ReloadNow).opening().is_some());
}

#[test]
fn repeatedly_crashing_watch_quarantined() {
    let bench = watch_in_quarantine(Strategy::Realtime);
    let (role, crashes, length) = quarantined(&bench).expect("in quarantine");
    assert!(
        (role, crashes) == (Role::Watching, 5) && has_length(length, FIVE_MINUTES),
        "{length:?}"
    );
    let reason =
        "watching is in quarantine after 5 crashes in a row; last crash: the plugin trapped";
    assert_eq!(bench.stale_reasons(), [reason]);
}

/// An event right after the arming does not reset the crash count; an event after 5 s does.
#[test]
fn stable_watch_resets_crash_count() {
    let mut bench = watch_in_quarantine(Strategy::Realtime);
    let watch = arm_watch(&mut bench);
    bench.step(Input::Watched(watch, Event::Alive));
    bench.step(Input::WatchLost(watch, crash()));
    assert_eq!(quarantined(&bench).expect("an early event does not reset the count").1, 6);
    let watch = arm_watch(&mut bench);
    bench.wait(Duration::from_secs(5)).step(Input::Watched(watch, Event::Alive));
    bench.step(Input::WatchLost(watch, crash()));
    assert_eq!(quarantined(&bench), None);
}

#[test]
fn watch_reopened_after_quarantine() {
    let mut bench = watch_in_quarantine(Strategy::Realtime);
    let (_, _, length) = quarantined(&bench).expect("in quarantine");
    let (until, mut opened_at) = (bench.now + length, None);
    for _ in 0..1_000 {
        bench.wait_for_deadline();
        if bench.opening().is_some() {
            opened_at = Some(bench.now);
            break;
        }
        if bench.fetch().is_some() {
            bench.answer(changed("a"));
        }
    }
    assert_eq!(opened_at, Some(until));
}

#[test]
fn hybrid_polls_during_watch_quarantine() {
    let mut bench = watch_in_quarantine(Strategy::Hybrid);
    for content in ["b", "c", "d"] {
        let before = bench.now;
        bench.wait_for_fetch().answer(changed(content));
        assert_eq!(bench.published(), [content]);
        assert!(bench.now - before <= Duration::from_secs(11));
        assert!(content != "b" || bench.effects.contains(&Effect::Fresh));
        assert_eq!(bench.stale_reasons(), [""; 0]);
    }
}

#[test]
fn stale_reason_names_watch_quarantine() {
    let mut settings = settings(Strategy::Realtime);
    settings.reconcile = Duration::from_secs(60);
    let mut bench = bench_with_settings(settings);
    crash_watch_into_quarantine(&mut bench);
    bench.step(Input::ReloadNow);
    let watch = bench.opening().expect("one retry");
    bench.answer(changed("a")).step(Input::WatchLost(watch, crash()));
    bench.wait_for_fetch().answer(changed("a"));
    assert!(bench.effects.contains(&Effect::Fresh));
    bench.wait(Duration::from_secs(30));
    let reason =
        "watching is in quarantine after 6 crashes in a row; last crash: the plugin trapped";
    assert_eq!(bench.stale_reasons(), [reason]);
}

#[test]
fn watch_publishes_during_fetch_quarantine() {
    let (mut bench, watch) = fetch_in_quarantine(Strategy::Realtime);
    let watch = watch.expect("watching");
    for content in ["b", "c", "d"] {
        bench.wait(Duration::from_secs(20));
        bench.step(Input::Watched(watch, Event::Changed(value(content))));
        assert_eq!(bench.published(), [content]);
    }
}

#[test]
fn crashed_validation_retried() {
    let mut bench = bench(Strategy::Polling);
    bench.validate = |_| Err(crash());
    assert_eq!(bench.answer(changed("a")).published(), [""; 0]);
    bench.validate = |_| Ok(());
    assert_eq!(bench.wait_for_fetch().answer(changed("a")).published(), ["a"]);
    assert_eq!(crash().kind, FailureKind::Crashed);
}

#[test]
fn ended_quarantine_not_named_as_stale_reason() {
    let (mut bench, _) = fetch_in_quarantine(Strategy::Polling);
    bench.wait_for_fetch().answer(changed("a"));
    bench.wait_for_fetch().wait(Duration::from_secs(25));
    assert_eq!(bench.stale_reasons(), ["the source has not answered"]);
}

//! What happens to sources that crash, one test for each rule.

use super::{harness::*, *};
use crate::types::{Event, FailureKind};

const MINUTES_5: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3600);

/// Why the value is said to be stale, each time that it is said.
fn stale(bench: &Bench) -> Vec<String> {
    let reason = |effect: &Effect| match effect {
        Effect::Stale(failure) => Some(failure.message.to_string()),
        _ => None,
    };
    bench.effects.iter().filter_map(reason).collect()
}

/// What is put in quarantine, after how many crashes, and for how long.
fn quarantined(bench: &Bench) -> Option<(Role, u32, Duration)> {
    bench.effects.iter().find_map(|effect| match effect {
        Effect::Report(Report::Quarantined { role, crashes, retry_in, .. }) => {
            Some((*role, *crashes, *retry_in))
        }
        _ => None,
    })
}

/// The length of a quarantine: what is asked for, and up to a twentieth more.
fn is_about(lasts: Duration, expected: Duration) -> bool {
    (expected..=expected.mul_f64(1.05)).contains(&lasts)
}

/// Crashes as often as the source is read, this many times.
fn read_and_crash(bench: &mut Bench, times: usize) {
    for _ in 0..times {
        bench.wait_for_fetch().answer(Err(crash()));
    }
}

/// With `a` published, and what reads in quarantine.
fn reader_in_quarantine(strategy: Strategy) -> (Bench, Option<Session>) {
    let mut bench = bench(strategy);
    let watch = bench.settled();
    bench.step(Input::ReloadNow);
    read_and_crash(&mut bench, 5);
    (bench, watch)
}

/// Opens the watch as soon as may be, and arms it.
fn arm(bench: &mut Bench) -> Session {
    while bench.opening().is_none() {
        bench.wait_for_deadline();
        if bench.fetch().is_some() && bench.opening().is_none() {
            bench.answer(changed("a"));
        }
    }
    let watch = bench.opening().expect("opening");
    bench.step(Input::Armed(watch)).answer(changed("a"));
    watch
}

/// The same, and lets it crash then.
fn arm_and_crash(bench: &mut Bench) {
    let watch = arm(bench);
    bench.step(Input::WatchLost(watch, crash()));
}

/// With `a` published, and the watch in quarantine.
fn watch_in_quarantine(strategy: Strategy) -> Bench {
    let mut bench = bench(strategy);
    let watch = bench.settled().expect("watching");
    bench.step(Input::WatchLost(watch, crash()));
    for _ in 0..4 {
        arm_and_crash(&mut bench);
    }
    bench
}

#[test]
fn a_value_is_stale_as_soon_as_its_reader_crashes_and_fresh_when_the_source_agrees() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    bench.wait_for_fetch().answer(Err(crash()));
    assert_eq!(stale(&bench), ["the plugin trapped"]);
    bench.wait_for_fetch().answer(Err(crash()));
    assert_eq!(stale(&bench), [""; 0], "it is said once");
    bench.wait_for_fetch().answer(changed("a"));
    assert_eq!(bench.effects, [Effect::Report(Report::Recovered), Effect::Fresh]);
}

#[test]
fn a_value_is_stale_as_soon_as_its_watch_crashes() {
    let mut bench = bench(Strategy::Realtime);
    let watch = bench.settled().expect("watching");
    bench.step(Input::WatchLost(watch, crash()));
    assert_eq!(stale(&bench), ["the plugin trapped"]);
    // Opening it may crash as well.
    bench.step(Input::ReloadNow).answer(changed("a"));
    assert!(bench.effects.contains(&Effect::Fresh));
    while bench.opening().is_none() {
        bench.wait_for_deadline();
    }
    let watch = bench.opening().expect("opening");
    bench.step(Input::WatchLost(watch, crash()));
    assert_eq!(stale(&bench), ["the plugin trapped"]);
}

#[test]
fn without_a_value_nothing_is_stale() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(Err(crash()));
    assert_eq!(stale(&bench), [""; 0]);
}

#[test]
fn an_ordinary_failure_makes_nothing_stale_at_once_and_no_quarantine() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    bench.wait_for_fetch().answer(Err(broken()));
    assert_eq!(stale(&bench), [""; 0]);
    for _ in 0..20 {
        bench.wait_for_fetch().answer(Err(broken()));
        assert_eq!(quarantined(&bench), None);
    }
}

#[test]
fn a_call_that_does_not_come_back_has_crashed() {
    let mut bench = bench(Strategy::Realtime);
    bench.settled();
    bench.step(Input::ReloadNow).wait(Duration::from_secs(60));
    let reasons = ["the source did not answer within 60s"];
    assert_eq!(stale(&bench), reasons);
    let mut bench = crate::tests::harness::bench(Strategy::Realtime);
    bench.settled();
    bench.wait(Duration::from_secs(60));
    assert_eq!(stale(&bench), ["the watch was silent: limit `liveness` is 60s"]);
}

#[test]
fn whoever_meets_a_limit_is_told_its_name() {
    let mut settings = Settings::new(Strategy::Realtime, Duration::from_secs(10));
    settings.timeout_limit = Some("call-timeout");
    let limit = "within 60s, which follows from limit `call-timeout`";
    let mut bench = bench_of(settings.clone(), 7);
    bench.answer(changed("a"));
    bench.wait(Duration::from_secs(60));
    assert_eq!(stale(&bench), [format!("the watch could not be opened {limit}")]);
    let mut bench = bench_of(settings, 7);
    bench.settled();
    bench.step(Input::ReloadNow).wait(Duration::from_secs(60));
    assert_eq!(stale(&bench), [format!("the source did not answer {limit}")]);
}

#[test]
fn a_call_of_a_program_s_own_source_that_does_not_come_back_has_failed() {
    let mut settings = Settings::new(Strategy::Polling, Duration::from_secs(10));
    settings.silence_is_crash = false;
    settings.stale_after = HOUR;
    let mut bench = bench_of(settings, 7);
    bench.answer(changed("a"));
    for _ in 0..10 {
        bench.wait_for_fetch().wait(Duration::from_secs(60));
        assert_eq!((stale(&bench), quarantined(&bench)), (vec![], None));
    }
}

#[test]
fn what_crashes_five_times_in_a_row_is_in_quarantine_longer_each_time() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    for _ in 0..4 {
        read_and_crash(&mut bench, 1);
        assert_eq!(quarantined(&bench), None);
    }
    for (crashes, lasts) in
        [(5, 1), (6, 2), (7, 4), (8, 8)].map(|(n, times)| (n, MINUTES_5 * times))
    {
        read_and_crash(&mut bench, 1);
        let (role, counted, retry_in) = quarantined(&bench).expect("in quarantine");
        assert_eq!((role, counted), (Role::Reading, crashes));
        assert!(is_about(retry_in, lasts), "{retry_in:?}");
        assert_eq!(bench.engine.next_fetch(), Some(bench.now + retry_in));
    }
    for crashes in 9..30 {
        read_and_crash(&mut bench, 1);
        let (_, counted, retry_in) = quarantined(&bench).expect("in quarantine");
        assert!(counted == crashes && is_about(retry_in, HOUR), "{retry_in:?}");
    }
}

#[test]
fn an_answer_ends_the_row() {
    let (mut bench, _) = reader_in_quarantine(Strategy::Polling);
    bench.wait_for_fetch().answer(changed("b"));
    for _ in 0..4 {
        read_and_crash(&mut bench, 1);
        assert_eq!(quarantined(&bench), None);
    }
    read_and_crash(&mut bench, 1);
    let (_, crashes, lasts) = quarantined(&bench).expect("in quarantine");
    assert!(crashes == 5 && is_about(lasts, MINUTES_5), "{lasts:?}");
}

#[test]
fn a_failure_between_crashes_does_not_end_the_row() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    for _ in 0..4 {
        read_and_crash(&mut bench, 1);
        bench.wait_for_fetch().answer(Err(broken()));
    }
    read_and_crash(&mut bench, 1);
    assert!(quarantined(&bench).is_some());
}

#[test]
fn the_reason_for_being_stale_is_the_quarantine() {
    let (mut bench, watch) = reader_in_quarantine(Strategy::Hybrid);
    let watch = watch.expect("watching");
    let reason =
        "reading is in quarantine after 5 crashes in a row, the last one: the plugin trapped";
    assert_eq!(stale(&bench), [reason]);
    // Also of a value that the watch has brought meanwhile, when nobody stands for it any more.
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    assert!(bench.published() == ["b"] && bench.effects.contains(&Effect::Fresh));
    bench.step(Input::Watched(watch, Event::Dirty));
    while stale(&bench).is_empty() {
        bench.step(Input::Watched(watch, Event::Alive)).wait(Duration::from_secs(30));
    }
    assert_eq!(stale(&bench), [reason]);
}

#[test]
fn no_plugin_ends_its_own_quarantine_but_what_it_announces_is_read_afterwards() {
    let (mut bench, watch) = reader_in_quarantine(Strategy::Hybrid);
    let watch = watch.expect("watching");
    let until = bench.engine.next_fetch();
    let said = [Event::Dirty, Event::Removed, Event::Changed(value("b")), Event::Dirty];
    for event in said.into_iter().cycle().take(100) {
        bench.step(Input::Watched(watch, event));
        assert_eq!(bench.engine.next_fetch(), until);
    }
    bench.step(Input::WatchLost(watch, broken()));
    assert_eq!(bench.engine.next_fetch(), until, "polling does not take over sooner");
    let (_, known) = bench.wait_for_fetch().fetch().expect("tried again");
    assert_eq!((Some(bench.now), known), (until, None));
}

#[test]
fn what_is_announced_does_not_make_crashes_come_faster() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    let (start, mut shortest) = (bench.now, Duration::ZERO);
    for pause in [50, 100, 200, 400] {
        bench.step(Input::Watched(watch, Event::Dirty));
        while bench.fetch().is_none() {
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
        shortest += Duration::from_millis(pause);
    }
}

#[test]
fn somebody_who_insists_ends_both_quarantines_and_the_next_ones_are_not_longer_for_it() {
    let (mut bench, _) = reader_in_quarantine(Strategy::Polling);
    for crashes in 6..10 {
        assert!(bench.step(Input::ReloadNow).fetch().is_some());
        bench.answer(Err(crash()));
        let (_, counted, lasts) = quarantined(&bench).expect("one try, and no more");
        assert!(counted == crashes && is_about(lasts, MINUTES_5), "{lasts:?}");
    }

    let mut bench = watch_in_quarantine(Strategy::Realtime);
    assert!(bench.step(Input::ReloadNow).opening().is_some());
}

#[test]
fn a_watch_that_is_armed_and_crashes_again_and_again_is_in_quarantine() {
    let bench = watch_in_quarantine(Strategy::Realtime);
    let (role, crashes, lasts) = quarantined(&bench).expect("in quarantine");
    assert!((role, crashes) == (Role::Watching, 5) && is_about(lasts, MINUTES_5), "{lasts:?}");
    let reason =
        "watching is in quarantine after 5 crashes in a row, the last one: the plugin trapped";
    assert_eq!(stale(&bench), [reason]);
}

#[test]
fn a_watch_has_proved_itself_when_it_has_lived_for_a_while_and_says_something() {
    let mut bench = watch_in_quarantine(Strategy::Realtime);
    let watch = arm(&mut bench);
    bench.step(Input::Watched(watch, Event::Alive));
    bench.step(Input::WatchLost(watch, crash()));
    assert_eq!(quarantined(&bench).expect("one event proves nothing").1, 6);
    let watch = arm(&mut bench);
    bench.wait(Duration::from_secs(5)).step(Input::Watched(watch, Event::Alive));
    bench.step(Input::WatchLost(watch, crash()));
    assert_eq!(quarantined(&bench), None);
}

#[test]
fn hybrid_polls_while_its_watch_is_in_quarantine_and_is_fresh() {
    let mut bench = watch_in_quarantine(Strategy::Hybrid);
    for content in ["b", "c", "d"] {
        let before = bench.now;
        bench.wait_for_fetch().answer(changed(content));
        assert_eq!(bench.published(), [content]);
        assert!(bench.now - before <= Duration::from_secs(11));
    }
    assert_eq!(bench.engine.freshness, Freshness::Current);
}

#[test]
fn a_watch_in_quarantine_is_why_a_realtime_value_becomes_stale_again() {
    let mut bench = watch_in_quarantine(Strategy::Realtime);
    bench.engine.settings.reconcile = Duration::from_secs(60);
    bench.step(Input::ReloadNow);
    let watch = bench.opening().expect("one more try");
    bench.answer(changed("a")).step(Input::WatchLost(watch, crash()));
    bench.wait_for_fetch().answer(changed("a"));
    assert!(bench.effects.contains(&Effect::Fresh));
    bench.wait(Duration::from_secs(30));
    let reason =
        "watching is in quarantine after 6 crashes in a row, the last one: the plugin trapped";
    assert_eq!(stale(&bench), [reason]);
}

#[test]
fn a_watch_goes_on_bringing_values_while_what_reads_is_in_quarantine() {
    let (mut bench, watch) = reader_in_quarantine(Strategy::Realtime);
    let watch = watch.expect("watching");
    for content in ["b", "c", "d"] {
        bench.wait(Duration::from_secs(20));
        bench.step(Input::Watched(watch, Event::Changed(value(content))));
        assert_eq!(bench.published(), [content]);
    }
}

#[test]
fn a_value_whose_judge_has_crashed_is_judged_again() {
    let mut bench = bench(Strategy::Polling);
    bench.judge = |_| Err(crash());
    assert_eq!(bench.answer(changed("a")).published(), [""; 0]);
    bench.judge = |_| Ok(());
    assert_eq!(bench.wait_for_fetch().answer(changed("a")).published(), ["a"]);
    assert_eq!(crash().kind, FailureKind::Crashed);
}
